package main

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// VM replaces the simulator's virtual machine. The embedded pointer must come
// first: the simulator looks for the managed object there. Its own snapshot
// code must never see this type (it asserts *simulator.VirtualMachine), so
// every method that leads there is overridden.
type VM struct {
	*simulator.VirtualMachine
	lab       *Lab
	spec      VMSpec
	disks     map[int32]*disk
	snapshots []*Snapshot
	current   *Snapshot
	sid       int32
	busy      *types.ManagedObjectReference // the task at work
	ready     bool                          // made or restored: changes are kept from now on
}

// newVM makes our VM of the simulator's: new by its spec, or as it was saved.
func newVM(l *Lab, base *simulator.VirtualMachine, spec VMSpec, restored bool) (*VM, error) {
	vm := &VM{VirtualMachine: base, lab: l, spec: spec, disks: map[int32]*disk{}}
	vm.Capability.SnapshotOperationsSupported, vm.Capability.QuiescedSnapshotsSupported = true, true
	// Left empty by the simulator; strict clients refuse an empty enumeration.
	vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
	vm.Runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	if spec.Encrypted {
		vm.Runtime.CryptoState = "unlocked"
		vm.Config.KeyId = labKey
	}
	vm.Summary.Runtime = vm.Runtime
	vm.Summary.Config.TpmPresent = types.NewBool(spec.VTPM)
	vm.Summary.Config.Annotation = spec.Annotation
	if n, err := strconv.Atoi(strings.TrimPrefix(vm.Config.Version, "vmx-")); err == nil && n < 7 {
		vm.Capability.ChangeTrackingSupported = false
	}
	ctx := l.context()
	if restored {
		if err := vm.restore(ctx); err != nil {
			return nil, err
		}
	} else {
		attach(vm.Config.Hardware.Device)
		if err := vm.adopt(spec.Disks); err != nil {
			return nil, err
		}
		vm.stun()
		if spec.PoweredOn {
			vm.setPower(ctx, types.VirtualMachinePowerStatePoweredOn)
		}
	}
	vm.publishName(ctx)
	vm.publishMethods(ctx)
	vm.publishGuest(ctx)
	vm.publishSnapshots(ctx)
	vm.ready = true
	return vm, vm.trySave()
}

// labKey is what encrypted VMs and disks are encrypted with.
var labKey = &types.CryptoKeyId{KeyId: "lab-key", ProviderId: &types.KeyProviderId{Id: "lab-kms"}}

// adopt makes disks of devices that have none yet, follows those that changed
// and forgets those that are gone. Specs, if given, belong to the new ones in order.
func (vm *VM) adopt(specs []DiskSpec) error {
	present := map[int32]bool{}
	for _, device := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
		v := device.(*types.VirtualDisk)
		present[v.Key] = true
		d := vm.disks[v.Key]
		if d == nil {
			name := v.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().FileName
			k := &link{name: name, file: extentName(vm.lab.localPath(name))}
			d = &disk{key: v.Key, lab: vm.lab, live: k, links: []*link{k}}
			if len(specs) > 0 {
				d.spec, specs = specs[0], specs[1:]
			}
			v.DiskObjectId = fmt.Sprintf("%s-%d", strings.TrimPrefix(vm.Self.Value, "vm-"), v.Key)
			vm.disks[v.Key] = d
			if err := fill(k.file, d.spec.File); err != nil {
				return err
			}
			d.follow(v.Backing)
			if d.spec.Encrypted {
				d.like.KeyId = labKey
			}
		} else {
			d.follow(v.Backing)
		}
		if d.capacity != v.CapacityInBytes {
			d.capacity = v.CapacityInBytes
			if err := os.Truncate(d.live.file, d.capacity); err != nil {
				return err
			}
		}
	}
	if len(vm.snapshots) == 0 {
		maps.DeleteFunc(vm.disks, func(key int32, _ *disk) bool { return !present[key] })
	}
	return nil
}

func (vm *VM) on() bool { return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn }

// task runs f as a task of the VM, with whatever was armed for its name, and
// one at a time as vSphere does.
func (vm *VM) task(ctx *simulator.Context, name, id string, f func() (types.AnyType, types.BaseMethodFault)) (ref types.ManagedObjectReference) {
	t := simulator.CreateTask(vm.Self, name+"Task", func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if vm.busy != nil {
			return nil, &types.TaskInProgress{Task: *vm.busy}
		}
		vm.busy = &t.Self
		defer func() { vm.busy = nil }()
		text, _ := ctx.Value(requestText{}).(string)
		delay, fault := vm.lab.armed(name+"_Task", text, false)
		if delay > 0 {
			// Let others read the VM meanwhile. The lock counts its holders;
			// taking it once more, releasing twice, gives it up.
			release := ctx.Map.AcquireLock(ctx, vm)
			release()
			release()
			time.Sleep(delay)
			ctx.Map.AcquireLock(ctx, vm)
		}
		if fault != nil {
			return nil, fault
		}
		return f()
	})
	t.Info.DescriptionId = id
	ctx.WithLock(vm, func() { // Run puts the task into the VM's recentTask
		t.Info.EntityName = vm.Name
		ref = t.Run(ctx)
	})
	return ref
}

// ReconfigVMTask lets the simulator do its part, then follows.
func (vm *VM) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	ref := vm.task(ctx, "ReconfigVM", "VirtualMachine.reconfigure", func() (types.AnyType, types.BaseMethodFault) {
		if v := req.Spec.ChangeVersion; v != "" && v != vm.Config.ChangeVersion {
			return nil, &types.ConcurrentAccess{}
		}
		res := vm.VirtualMachine.ReconfigVMTask(ctx, req).(*methods.ReconfigVM_TaskBody)
		return nil, vm.follow(ctx, res.Res.Returnval)
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: ref}}
}

// RenameTask is ManagedEntity's way to rename.
func (vm *VM) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	ref := vm.task(ctx, "Rename", "VirtualMachine.rename", func() (types.AnyType, types.BaseMethodFault) {
		res := vm.VirtualMachine.RenameTask(ctx, req).(*methods.Rename_TaskBody)
		return nil, vm.follow(ctx, res.Res.Returnval)
	})
	return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: ref}}
}

// DestroyTask deletes the VM, for later starts of the lab too.
func (vm *VM) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	ref := vm.task(ctx, "Destroy", "VirtualMachine.destroy", func() (types.AnyType, types.BaseMethodFault) {
		res := vm.VirtualMachine.DestroyTask(ctx, req).(*methods.Destroy_TaskBody)
		t := ctx.Map.Get(res.Res.Returnval).(*simulator.Task)
		if t.Wait(); t.Info.Error != nil {
			return nil, t.Info.Error.Fault
		}
		return nil, vm.forgotten()
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: ref}}
}

// UnregisterVM takes the VM out of the inventory and leaves its files.
func (vm *VM) UnregisterVM(ctx *simulator.Context, req *types.UnregisterVM) soap.HasFault {
	res := vm.VirtualMachine.UnregisterVM(ctx, req)
	if res.Fault() == nil {
		vm.forgotten()
	}
	return res
}

func (vm *VM) forgotten() types.BaseMethodFault {
	vm.ready = false // nothing of it is saved any more
	if err := os.Remove(vm.stateFile()); err != nil {
		return &types.FileFault{File: vm.stateFile(), VimFault: because(err)}
	}
	return nil
}

// follow waits for the simulator's own task and sets right what it leaves out.
func (vm *VM) follow(ctx *simulator.Context, task types.ManagedObjectReference) types.BaseMethodFault {
	t := ctx.Map.Get(task).(*simulator.Task)
	if t.Wait(); t.Info.Error != nil {
		return t.Info.Error.Fault
	}
	vm.publishName(ctx)
	if err := vm.adopt(nil); err != nil {
		return &types.FileFault{File: vm.Config.Files.VmPathName, VimFault: because(err)}
	}
	if !vm.on() {
		vm.stun() // a VM at rest has nothing to wait for
	}
	vm.publishDisks(ctx)
	return nil
}
