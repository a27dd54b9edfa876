package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// Rule makes the next Count calls of a method slow, or fail, or lose their
// answer. Our own tasks fail as tasks; with Call, and everything else always,
// the call itself does.
type Rule struct {
	Method  string          `json:"method"` // "RemoveSnapshot_Task", "Login", "/folder"...
	About   []string        `json:"about"`  // only requests with all these words; a snapshot's name its VM, too
	Count   int             `json:"count"`  // default 1
	Seconds float64         `json:"seconds"`
	Fault   string          `json:"fault"`  // a type's name: "TaskInProgress"
	Detail  json.RawMessage `json:"detail"` // its fields
	Call    bool            `json:"call"`
	Lost    bool            `json:"lost"` // done, but the connection breaks before the answer
}

// Call is one request that arrived.
type Call struct {
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	Object string    `json:"object"`
}

func (r *Rule) fault() (types.BaseMethodFault, error) {
	if r.Fault == "" {
		return nil, nil
	}
	kind, ok := types.TypeFunc()(r.Fault)
	if !ok {
		return nil, fmt.Errorf("no fault type %q", r.Fault)
	}
	f, ok := reflect.New(kind).Interface().(types.BaseMethodFault)
	if !ok {
		return nil, fmt.Errorf("%q is no fault", r.Fault)
	}
	if len(r.Detail) > 0 {
		return f, json.Unmarshal(r.Detail, f)
	}
	return f, nil
}

// take uses up one occurrence of each rule that fits a request, up to the
// first that makes it fail.
func (l *Lab) take(method, text string, fits func(*Rule) bool) (delay time.Duration, fault types.BaseMethodFault, found bool) {
	words := l.words(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rules {
		if r.Method != method || !fits(r) || r.Count <= 0 || !all(r.About, words) {
			continue
		}
		r.Count--
		found = true
		delay += time.Duration(r.Seconds * float64(time.Second))
		if f, err := r.fault(); err == nil && f != nil {
			return delay, f, true
		}
	}
	return delay, nil, found
}

// armed takes what was set up for the next call of a method, or for its task.
func (l *Lab) armed(method, text string, call bool) (time.Duration, types.BaseMethodFault) {
	delay, fault, _ := l.take(method, text, func(r *Rule) bool { return !r.Lost && r.Call == call })
	return delay, fault
}

// loses says whether nobody shall hear the answer of this call.
func (l *Lab) loses(method, text string) bool {
	_, _, found := l.take(method, text, func(r *Rule) bool { return r.Lost })
	return found
}

func all(wanted []string, words map[string]bool) bool {
	return !slices.ContainsFunc(wanted, func(word string) bool { return !words[word] })
}

var (
	content       = regexp.MustCompile(`>([^<]+)<`)
	snapshotMoRef = regexp.MustCompile(`^snapshot-\d+$`)
)

// words are the texts of a request's elements, and what is known of the
// snapshots among them: their names and VMs.
func (l *Lab) words(text string) map[string]bool {
	words := map[string]bool{}
	for _, found := range content.FindAllStringSubmatch(text, -1) {
		word := html.UnescapeString(found[1])
		words[word] = true
		if !snapshotMoRef.MatchString(word) {
			continue
		}
		ref := types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: word}
		if s, ok := l.model.Map().Get(ref).(*managedSnapshot); ok {
			words[s.vm.Self.Value], words[s.node.Name] = true, true
		}
	}
	return words
}

func (l *Lab) record(method, object string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, Call{time.Now(), method, object})
}

type requestText struct{}

// see remembers a session, for those who look for its key where it must not be.
func (l *Lab) see(s *simulator.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s != nil && !slices.Contains(l.seen, s.Key) {
		l.seen = append(l.seen, s.Key)
	}
}

// intercept sees every SOAP call before it is dispatched. Its text goes along,
// for the task it may become.
func (l *Lab) intercept(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	l.record(m.Name, m.This.Value)
	l.see(ctx.Session)
	text, err := xml.Marshal(m.Body)
	if err != nil {
		return nil, &types.RuntimeFault{}
	}
	ctx.Context = context.WithValue(ctx.Context, requestText{}, string(text))
	delay, fault := l.armed(m.Name, string(text), true)
	time.Sleep(delay)
	return nil, fault
}

// ourTask says whether a method is one whose task we run.
func ourTask(method string) bool {
	name, is := strings.CutSuffix(method, "_Task")
	return is && slices.Contains([]string{
		"PowerOnVM", "PowerOffVM", "SuspendVM", "ResetVM", "Destroy", "ReconfigVM", "Rename", "CreateSnapshot", "CreateSnapshotEx", "RemoveSnapshot", "RemoveAllSnapshots",
		"RevertToSnapshot", "RevertToCurrentSnapshot", "ConsolidateVMDisks",
	}, name)
}
