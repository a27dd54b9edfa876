package main

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ConsolidateVMDisksTask merges what earlier removals left behind.
func (vm *VM) ConsolidateVMDisksTask(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	ref := vm.task(ctx, "ConsolidateVMDisks", "VirtualMachine.consolidateDisks", func() (types.AnyType, types.BaseMethodFault) {
		return nil, vm.consolidate(ctx)
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: ref}}
}

func (vm *VM) forget(ctx *simulator.Context, gone []*Snapshot, consolidate bool) types.BaseMethodFault {
	for _, s := range slices.Clone(gone) {
		for _, child := range vm.childrenOf(s) {
			child.under = s.under
		}
		if vm.current == s {
			vm.current = s.under
		}
		for _, f := range s.disks {
			f.link.conceal()
		}
		vm.snapshots = slices.DeleteFunc(vm.snapshots, func(x *Snapshot) bool { return x == s })
		ctx.Map.Remove(ctx, s.ref)
	}
	vm.stun()
	if consolidate && !vm.held() {
		return vm.consolidate(ctx)
	}
	vm.publishSnapshots(ctx)
	return nil
}

// held says whether somebody still reads what would have to be merged.
func (vm *VM) held() bool {
	if vm.lab.isLocked(vm.Name) {
		return true
	}
	for _, d := range vm.disks {
		if under, delta := d.spare(); under != nil && (isOpen(under.file) || delta != nil && isOpen(delta.file)) {
			return true
		}
	}
	return false
}

func (vm *VM) consolidate(ctx *simulator.Context) types.BaseMethodFault {
	if vm.held() {
		return &types.FileLocked{FileFault: types.FileFault{File: vm.Config.Files.VmPathName}}
	}
	for _, d := range vm.disks {
		if err := d.consolidate(); err != nil {
			return &types.FileFault{File: d.live.name, VimFault: because(err)}
		}
	}
	vm.publishSnapshots(ctx)
	return nil
}

func because(err error) (f types.VimFault) {
	f.FaultCause = &types.LocalizedMethodFault{Fault: &types.SystemErrorFault{Reason: err.Error()}, LocalizedMessage: err.Error()}
	return f
}
