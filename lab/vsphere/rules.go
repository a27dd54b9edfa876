package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Rule makes the next Count calls of a method slow, or fail. Our own tasks
// fail as tasks; with Call, and everything else always, the call itself does.
type Rule struct {
	Method  string          `json:"method"` // "RemoveSnapshot_Task", "Login", "/folder"...
	Count   int             `json:"count"`  // default 1
	Seconds float64         `json:"seconds"`
	Fault   string          `json:"fault"`  // a type's name: "TaskInProgress"
	Detail  json.RawMessage `json:"detail"` // its fields
	Call    bool            `json:"call"`
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

// armed takes what was set up for the next call of a method.
func (l *Lab) armed(method string, call bool) (delay time.Duration, fault types.BaseMethodFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rules {
		if r.Method != method || r.Call != call || r.Count <= 0 {
			continue
		}
		r.Count--
		delay += time.Duration(r.Seconds * float64(time.Second))
		if f, err := r.fault(); err == nil && f != nil {
			return delay, f
		}
	}
	return delay, nil
}

func (l *Lab) record(method, object string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, Call{time.Now(), method, object})
}

// intercept sees every SOAP call before it is dispatched.
func (l *Lab) intercept(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	l.record(m.Name, m.This.Value)
	delay, fault := l.armed(m.Name, true)
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
