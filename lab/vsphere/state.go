package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// The state folder holds what a restart must find again:
//
//	vcenter.json      scenario, identity, number of starts
//	tls.pem           certificate and key
//	vms/vm-29.json    one VM: configuration, snapshots, chains, tracking, power, Tools
//	datastores/       the files (the lab's root)
//
// A VM's file is replaced after each change, before its answer. Links that
// fell out of use are deleted only after that, so that a kill at any moment
// leaves a state that fits its files.

type savedCenter struct {
	InstanceUUID string
	Starts       int
	Scenario     Scenario
}

type savedVM struct {
	Name, Power, Current string
	Spec                 VMSpec // as it is now, Tools for instance
	BootTime             *time.Time
	Config               json.RawMessage
	SID                  int32
	Disks                []savedDisk
	Snapshots            []savedSnapshot
}

type savedDisk struct {
	Key    int32
	Spec   DiskSpec
	Deltas int
	Live   int // index in Links
	Links  []savedLink
	Track  savedTracking
}

type savedLink struct {
	Name   string
	Parent int // index in Links, -1 for a base
	Frozen string
}

// savedTracking lists stamps as runs: first grain, number of grains, stamp.
type savedTracking struct {
	Epoch   string
	Counter int
	Runs    [][3]int64
}

type savedSnapshot struct {
	Ref, Under, Tools string
	Config            json.RawMessage
	Node              savedNode
	Disks             []savedFrozen
}

type savedNode struct {
	Name, Description, State string
	ID                       int32
	Created                  time.Time
	Quiesced                 bool
}

type savedFrozen struct {
	Key   int32
	Link  int
	Track savedTracking
}

// replaceFile writes a file so that a reader, or the next start after a kill,
// sees the old content or the new, never a part of it. Only this user may read it.
func replaceFile(file string, content []byte) error {
	temporary := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}

func saveJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(file, text)
}

func loadJSON(file string, value any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// encodeConfig writes a configuration with its type names, as govmomi reads it.
func encodeConfig(c *types.VirtualMachineConfigInfo) (json.RawMessage, error) {
	var text bytes.Buffer
	err := types.NewJSONEncoder(&text).Encode(c)
	return text.Bytes(), err
}

func decodeConfig(text json.RawMessage) (c types.VirtualMachineConfigInfo, err error) {
	err = types.NewJSONDecoder(bytes.NewReader(text)).Decode(&c)
	return c, err
}

func (t *tracking) saved() savedTracking {
	s := savedTracking{Epoch: t.epoch, Counter: t.counter}
	grains := make([]int64, 0, len(t.stamps))
	for g := range t.stamps {
		grains = append(grains, g)
	}
	slices.Sort(grains)
	for _, g := range grains {
		if n := len(s.Runs); n > 0 && s.Runs[n-1][0]+s.Runs[n-1][1] == g && s.Runs[n-1][2] == int64(t.stamps[g]) {
			s.Runs[n-1][1]++
		} else {
			s.Runs = append(s.Runs, [3]int64{g, 1, int64(t.stamps[g])})
		}
	}
	return s
}

func (s savedTracking) tracking() tracking {
	t := tracking{epoch: s.Epoch, counter: s.Counter, stamps: map[int64]int{}}
	for _, run := range s.Runs {
		for g := run[0]; g < run[0]+run[1]; g++ {
			t.stamps[g] = int(run[2])
		}
	}
	return t
}

func (l *Lab) stateFile(vm types.ManagedObjectReference) string {
	return filepath.Join(l.state, "vms", vm.Value+".json")
}

func (vm *VM) stateFile() string { return vm.lab.stateFile(vm.Self) }

// save keeps the VM's state, then deletes what it no longer mentions. The VM's
// lock is held.
func (vm *VM) save() {
	if !vm.ready {
		return
	}
	if err := vm.trySave(); err != nil {
		log.Printf("%s: not saved: %v", vm.Name, err)
		return
	}
	for _, d := range vm.disks {
		for _, path := range d.trash {
			_ = os.Remove(path)
		}
		d.trash = nil
	}
}

func (vm *VM) trySave() error {
	config, err := encodeConfig(vm.Config)
	if err != nil {
		return err
	}
	s := savedVM{
		Name: vm.Name, Power: string(vm.Runtime.PowerState), Spec: vm.spec, BootTime: vm.Runtime.BootTime, Config: config, SID: vm.sid,
	}
	if vm.current != nil {
		s.Current = vm.current.ref.Value
	}
	for _, d := range vm.disks {
		saved := savedDisk{Key: d.key, Spec: d.spec, Deltas: d.deltas, Live: slices.Index(d.links, d.live), Track: d.track.saved()}
		for _, k := range d.links {
			link := savedLink{Name: k.name, Parent: slices.Index(d.links, k.parent)}
			if k.frozen != nil {
				link.Frozen = k.frozen.ref.Value
			}
			saved.Links = append(saved.Links, link)
		}
		s.Disks = append(s.Disks, saved)
	}
	for _, snapshot := range vm.snapshots {
		saved, err := snapshot.saved()
		if err != nil {
			return err
		}
		s.Snapshots = append(s.Snapshots, saved)
	}
	return saveJSON(vm.stateFile(), s)
}

func (s *Snapshot) saved() (savedSnapshot, error) {
	config, err := encodeConfig(&s.config)
	if err != nil {
		return savedSnapshot{}, err
	}
	saved := savedSnapshot{Ref: s.ref.Value, Tools: s.tools, Config: config, Node: savedNode{
		Name: s.node.Name, Description: s.node.Description, State: string(s.node.State),
		ID: s.node.Id, Created: s.node.CreateTime, Quiesced: s.node.Quiesced,
	}}
	if s.under != nil {
		saved.Under = s.under.ref.Value
	}
	for key, f := range s.disks {
		saved.Disks = append(saved.Disks, savedFrozen{key, slices.Index(s.vm.disks[key].links, f.link), f.track.saved()})
	}
	return saved, nil
}
