package main

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// PowerOnVMTask starts the VM.
func (vm *VM) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	ref := vm.task(ctx, "PowerOnVM", "VirtualMachine.powerOn", func() (types.AnyType, types.BaseMethodFault) {
		return nil, vm.power(ctx, types.VirtualMachinePowerStatePoweredOn)
	})
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: ref}}
}

// PowerOffVMTask pulls the plug.
func (vm *VM) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	ref := vm.task(ctx, "PowerOffVM", "VirtualMachine.powerOff", func() (types.AnyType, types.BaseMethodFault) {
		return nil, vm.power(ctx, types.VirtualMachinePowerStatePoweredOff)
	})
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: ref}}
}

// SuspendVMTask stops the VM where it is.
func (vm *VM) SuspendVMTask(ctx *simulator.Context, req *types.SuspendVM_Task) soap.HasFault {
	ref := vm.task(ctx, "SuspendVM", "VirtualMachine.suspend", func() (types.AnyType, types.BaseMethodFault) {
		if fault := vm.mustRun(types.VirtualMachinePowerStateSuspended); fault != nil {
			return nil, fault
		}
		return nil, vm.power(ctx, types.VirtualMachinePowerStateSuspended)
	})
	return &methods.SuspendVM_TaskBody{Res: &types.SuspendVM_TaskResponse{Returnval: ref}}
}

// ResetVMTask presses the reset button.
func (vm *VM) ResetVMTask(ctx *simulator.Context, req *types.ResetVM_Task) soap.HasFault {
	ref := vm.task(ctx, "ResetVM", "VirtualMachine.reset", func() (types.AnyType, types.BaseMethodFault) {
		if fault := vm.mustRun(types.VirtualMachinePowerStatePoweredOn); fault != nil {
			return nil, fault
		}
		vm.reboot(ctx)
		return nil, nil
	})
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: ref}}
}

// mustRun is the fault of a call that only a running VM can obey.
func (vm *VM) mustRun(wanted types.VirtualMachinePowerState) types.BaseMethodFault {
	if vm.on() {
		return nil
	}
	return &types.InvalidPowerState{RequestedState: wanted, ExistingState: vm.Runtime.PowerState}
}

// askGuest is what ShutdownGuest and RebootGuest need: a running VM, with Tools.
func (vm *VM) askGuest(wanted types.VirtualMachinePowerState) *soap.Fault {
	if fault := vm.mustRun(wanted); fault != nil {
		return simulator.Fault(faultText(fault), fault)
	}
	if vm.spec.Tools != "running" {
		return simulator.Fault("Cannot complete operation because VMware Tools is not running in this virtual machine.", &types.ToolsUnavailable{})
	}
	return nil
}

// RebootGuest asks VMware Tools to restart the guest.
func (vm *VM) RebootGuest(ctx *simulator.Context, req *types.RebootGuest) soap.HasFault {
	if fault := vm.askGuest(types.VirtualMachinePowerStatePoweredOn); fault != nil {
		return &methods.RebootGuestBody{Fault_: fault}
	}
	vm.reboot(ctx)
	return &methods.RebootGuestBody{Res: &types.RebootGuestResponse{}}
}

// ShutdownGuest asks VMware Tools, if they run; the guest takes its time.
func (vm *VM) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	if fault := vm.askGuest(types.VirtualMachinePowerStatePoweredOff); fault != nil {
		return &methods.ShutdownGuestBody{Fault_: fault}
	}
	if wait := vm.spec.ShutdownSeconds; wait >= 0 {
		time.AfterFunc(time.Duration(wait*float64(time.Second)), func() {
			ctx := vm.lab.context()
			ctx.WithLock(vm, func() { _ = vm.power(ctx, types.VirtualMachinePowerStatePoweredOff) })
		})
	}
	return &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
}

// MountToolsInstaller and UnmountToolsInstaller only keep the books.
func (vm *VM) MountToolsInstaller(ctx *simulator.Context, req *types.MountToolsInstaller) soap.HasFault {
	assign(ctx, vm, "runtime.toolsInstallerMounted", true)
	return &methods.MountToolsInstallerBody{Res: &types.MountToolsInstallerResponse{}}
}

func (vm *VM) UnmountToolsInstaller(ctx *simulator.Context, req *types.UnmountToolsInstaller) soap.HasFault {
	assign(ctx, vm, "runtime.toolsInstallerMounted", false)
	return &methods.UnmountToolsInstallerBody{Res: &types.UnmountToolsInstallerResponse{}}
}

func (vm *VM) power(ctx *simulator.Context, state types.VirtualMachinePowerState) types.BaseMethodFault {
	if vm.Runtime.PowerState == state {
		return &types.InvalidPowerState{RequestedState: state, ExistingState: state}
	}
	vm.setPower(ctx, state)
	return nil
}

func (vm *VM) setPower(ctx *simulator.Context, state types.VirtualMachinePowerState) {
	if vm.Runtime.PowerState == state {
		return
	}
	vm.lab.recordPower(vm.Self.Value, state)
	assign(ctx, vm, "runtime.powerState", state)
	assign(ctx, vm, "summary.runtime.powerState", state)
	host := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	event := types.VmEvent{Event: types.Event{
		Datacenter: &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: datacenter}},
		Host:       &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: host.Name}, Host: host.Self},
		Vm:         &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: vm.Name}, Vm: vm.Self},
	}}
	if vm.on() {
		vm.publishBoot(ctx, time.Now())
		post(ctx, &types.VmPoweredOnEvent{VmEvent: event})
	} else {
		vm.publishBoot(ctx, nil)
		post(ctx, &types.VmPoweredOffEvent{VmEvent: event})
	}
	vm.stun()
	vm.publishConnections(ctx)
	vm.publishMethods(ctx)
	vm.publishGuest(ctx)
	vm.publishDisks(ctx)
}

// PowerChange is one moment in which a VM went on or off, whoever did it.
type PowerChange struct {
	Time  time.Time                      `json:"time"`
	VM    string                         `json:"vm"`
	State types.VirtualMachinePowerState `json:"state"`
}

func (l *Lab) recordPower(vm string, state types.VirtualMachinePowerState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.power = append(l.power, PowerChange{time.Now(), vm, state})
}

// reboot is the guest starting again without the VM being off.
func (vm *VM) reboot(ctx *simulator.Context) {
	vm.publishBoot(ctx, time.Now())
	vm.publishGuest(ctx)
}
