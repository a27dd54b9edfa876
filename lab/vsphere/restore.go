package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// restore brings a freshly made VM to what an earlier run saved.
func (vm *VM) restore(ctx *simulator.Context) error {
	var saved savedVM
	if err := loadJSON(vm.stateFile(), &saved); err != nil {
		return err
	}
	config, err := decodeConfig(saved.Config)
	if err != nil {
		return err
	}
	vm.spec, vm.sid = saved.Spec, saved.SID
	assign(ctx, vm, "config", config)
	assign(ctx, vm, "name", saved.Name)
	vm.disks = map[int32]*disk{}
	kept := map[string]bool{}
	for _, s := range saved.Disks {
		d, err := s.disk(vm, kept)
		if err != nil {
			return err
		}
		vm.disks[d.key] = d
	}
	if err := vm.adopt(nil); err != nil {
		return err
	}
	if err := vm.sweep(kept); err != nil {
		return err
	}
	if err := vm.restoreSnapshots(ctx, saved); err != nil {
		return err
	}
	assign(ctx, vm, "runtime.powerState", types.VirtualMachinePowerState(saved.Power))
	assign(ctx, vm, "summary.runtime.powerState", types.VirtualMachinePowerState(saved.Power))
	if saved.BootTime != nil {
		vm.publishBoot(ctx, *saved.BootTime)
	}
	return nil
}

// disk rebuilds a chain. Which grains a delta holds is read from its file.
func (s savedDisk) disk(vm *VM, kept map[string]bool) (*disk, error) {
	d := &disk{key: s.Key, lab: vm.lab, spec: s.Spec, deltas: s.Deltas, track: s.Track.tracking()}
	for _, saved := range s.Links {
		k := &link{name: saved.Name, file: extentName(vm.lab.localPath(saved.Name))}
		kept[k.file], kept[vm.lab.localPath(saved.Name)] = true, true
		if _, err := os.Stat(k.file); err != nil {
			return nil, err
		}
		d.links = append(d.links, k)
	}
	for i, saved := range s.Links {
		if saved.Parent >= 0 {
			d.links[i].parent = d.links[saved.Parent]
		}
	}
	d.live = d.links[s.Live]
	st, err := os.Stat(d.links[0].file)
	if err != nil {
		return nil, err
	}
	d.capacity = st.Size()
	for _, k := range d.links {
		if k.parent != nil {
			if err := d.recount(k); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

func (vm *VM) restoreSnapshots(ctx *simulator.Context, saved savedVM) error {
	byRef := map[string]*Snapshot{}
	for _, s := range saved.Snapshots {
		config, err := decodeConfig(s.Config)
		if err != nil {
			return err
		}
		snapshot := &Snapshot{
			vm: vm, ref: types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: s.Ref},
			config: config, tools: s.Tools, disks: map[int32]*frozen{},
		}
		snapshot.node = types.VirtualMachineSnapshotTree{
			Snapshot: snapshot.ref, Vm: vm.Self, Name: s.Node.Name, Description: s.Node.Description, Id: s.Node.ID, CreateTime: s.Node.Created,
			State: types.VirtualMachinePowerState(s.Node.State), Quiesced: s.Node.Quiesced, ReplaySupported: types.NewBool(false),
		}
		for _, f := range s.Disks {
			snapshot.disks[f.Key] = &frozen{vm.disks[f.Key].links[f.Link], f.Track.tracking()}
		}
		byRef[s.Ref], vm.snapshots = snapshot, append(vm.snapshots, snapshot)
	}
	for _, s := range saved.Snapshots {
		byRef[s.Ref].under = byRef[s.Under]
		ctx.Map.Put(byRef[s.Ref].managed())
	}
	vm.current = byRef[saved.Current]
	for _, s := range saved.Disks {
		for i, k := range s.Links {
			link := vm.disks[s.Key].links[i]
			tell := link.notes
			if k.Frozen != "" {
				link.frozen, tell = byRef[k.Frozen], link.expose
			}
			if err := tell(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep removes what a kill left between two states, and the side files of the
// mock VDDK library, which are written again.
func (vm *VM) sweep(kept map[string]bool) error {
	dir := filepath.Dir(vm.lab.localPath(vm.Config.Files.VmPathName))
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if sideFile.MatchString(path) || deltaFile.MatchString(path) && !kept[path] {
			_ = os.Remove(path)
		}
	}
	return err
}

// skipReferences lets the next MoRefs start above all that an earlier run can
// have given out: a task of then must not be mistaken for one of now.
func skipReferences(ctx *simulator.Context, starts int) error {
	marker := &mo.Task{}
	marker.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-%d", starts*1_000_000)}
	ctx.Map.Put(marker)
	defer ctx.Map.Remove(ctx, marker.Self)
	return ctx.Map.AlignCounter()
}
