package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
}

func newVM(l *Lab, base *simulator.VirtualMachine, spec VMSpec) (*VM, error) {
	vm := &VM{VirtualMachine: base, lab: l, spec: spec, disks: map[int32]*disk{}}
	vm.Capability.SnapshotOperationsSupported, vm.Capability.QuiescedSnapshotsSupported = true, true
	// Left empty by the simulator; strict clients refuse an empty enumeration.
	vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
	vm.Runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	vm.Summary.Runtime = vm.Runtime
	if n, err := strconv.Atoi(strings.TrimPrefix(vm.Config.Version, "vmx-")); err == nil && n < 7 {
		vm.Capability.ChangeTrackingSupported = false
	}
	if err := vm.adopt(spec.Disks); err != nil {
		return nil, err
	}
	vm.stun()
	ctx := l.context()
	if spec.PoweredOn {
		vm.setPower(ctx, types.VirtualMachinePowerStatePoweredOn)
	}
	vm.publishGuest(ctx)
	vm.publishSnapshots(ctx)
	return vm, nil
}

// adopt makes disks of devices that have none yet, and follows those that
// grew. Specs, if given, belong to the new ones in order.
func (vm *VM) adopt(specs []DiskSpec) error {
	for _, device := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
		v := device.(*types.VirtualDisk)
		d := vm.disks[v.Key]
		if d == nil {
			b := v.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			k := &link{name: b.FileName, file: extentName(vm.lab.localPath(b.FileName))}
			var spec DiskSpec
			if len(specs) > 0 {
				spec, specs = specs[0], specs[1:]
			}
			d = &disk{key: v.Key, lab: vm.lab, live: k, links: []*link{k}, never: spec.NoTracking, outside: strings.HasPrefix(b.DiskMode, "independent")}
			v.DiskObjectId = fmt.Sprintf("%s-%d", strings.TrimPrefix(vm.Self.Value, "vm-"), v.Key)
			vm.disks[v.Key] = d
			if err := fill(k.file, spec.File); err != nil {
				return err
			}
		}
		if d.capacity != v.CapacityInBytes {
			d.capacity = v.CapacityInBytes
			if err := os.Truncate(d.live.file, d.capacity); err != nil {
				return err
			}
		}
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
		delay, fault := vm.lab.armed(name+"_Task", false)
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

// follow waits for the simulator's own task and sets right what it leaves out.
func (vm *VM) follow(ctx *simulator.Context, task types.ManagedObjectReference) types.BaseMethodFault {
	t := ctx.Map.Get(task).(*simulator.Task)
	if t.Wait(); t.Info.Error != nil {
		return t.Info.Error.Fault
	}
	assign(ctx, vm, "config.name", vm.Name)
	assign(ctx, vm, "summary.config.name", vm.Name)
	assign(ctx, vm, "summary.config.annotation", vm.Config.Annotation)
	if err := vm.adopt(nil); err != nil {
		return &types.FileFault{File: vm.Config.Files.VmPathName, VimFault: because(err)}
	}
	if !vm.on() {
		vm.stun() // a VM at rest has nothing to wait for
	}
	vm.publishDisks(ctx)
	return nil
}

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

// ShutdownGuest asks VMware Tools, if they run; the guest takes its time.
func (vm *VM) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	body := &methods.ShutdownGuestBody{}
	switch {
	case !vm.on():
		body.Fault_ = simulator.Fault("", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: vm.Runtime.PowerState,
		})
	case vm.spec.Tools != "running":
		body.Fault_ = simulator.Fault("Cannot complete operation because VMware Tools is not running in this virtual machine.", &types.ToolsUnavailable{})
	default:
		if wait := vm.spec.ShutdownSeconds; wait >= 0 {
			time.AfterFunc(time.Duration(wait*float64(time.Second)), func() {
				ctx := vm.lab.context()
				ctx.WithLock(vm, func() { _ = vm.power(ctx, types.VirtualMachinePowerStatePoweredOff) })
			})
		}
		body.Res = &types.ShutdownGuestResponse{}
	}
	return body
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
	vm.publishGuest(ctx)
	vm.publishDisks(ctx)
}

// reboot is the guest starting again without the VM being off.
func (vm *VM) reboot(ctx *simulator.Context) {
	vm.publishBoot(ctx, time.Now())
	vm.publishGuest(ctx)
}

// publishBoot shows when the guest started: a time.Time, or nil.
func (vm *VM) publishBoot(ctx *simulator.Context, at any) {
	assign(ctx, vm, "runtime.bootTime", at)
	assign(ctx, vm, "summary.runtime.bootTime", at)
}

// publishGuest shows what Tools would report.
func (vm *VM) publishGuest(ctx *simulator.Context) {
	g := types.GuestInfo{
		ToolsStatus: types.VirtualMachineToolsStatusToolsNotInstalled, ToolsVersion: "0", GuestState: "notRunning",
		ToolsVersionStatus2: string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled),
		ToolsRunningStatus:  string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning),
	}
	if tools := or(vm.spec.Tools, "none"); tools != "none" {
		g.ToolsStatus, g.ToolsVersion = types.VirtualMachineToolsStatusToolsNotRunning, "12352"
		g.ToolsVersionStatus2 = string(types.VirtualMachineToolsVersionStatusGuestToolsUnmanaged)
		g.ToolsInstallType = string(types.VirtualMachineToolsInstallTypeGuestToolsTypeOpenVMTools)
		if vm.on() && tools == "running" {
			g.ToolsStatus, g.GuestState = types.VirtualMachineToolsStatusToolsOk, "running"
			g.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
			g.GuestId, g.GuestFullName, g.HostName = vm.Config.GuestId, vm.Config.GuestFullName, or(vm.spec.HostName, vm.Name)
			g.GuestFamily = string(types.VirtualMachineGuestOsFamilyLinuxGuest)
			if strings.HasPrefix(strings.ToLower(vm.Config.GuestId), "win") {
				g.GuestFamily = string(types.VirtualMachineGuestOsFamilyWindowsGuest)
			}
			for i, device := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualEthernetCard)(nil)) {
				card := device.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
				nic := types.GuestNicInfo{MacAddress: card.MacAddress, DeviceConfigId: card.Key, Connected: true}
				if i < len(vm.spec.NICs) {
					nic.Network, nic.IpAddress = or(vm.spec.NICs[i].Network, "VM Network"), vm.spec.NICs[i].IPs
				}
				if g.IpAddress == "" && len(nic.IpAddress) > 0 {
					g.IpAddress = nic.IpAddress[0]
				}
				g.Net = append(g.Net, nic)
			}
		}
	}
	assign(ctx, vm, "guest", g)
	assign(ctx, vm, "summary.guest", types.VirtualMachineGuestSummary{
		GuestId: g.GuestId, GuestFullName: g.GuestFullName, ToolsStatus: g.ToolsStatus, HostName: g.HostName,
		ToolsVersionStatus2: g.ToolsVersionStatus2, ToolsRunningStatus: g.ToolsRunningStatus, IpAddress: g.IpAddress,
	})
}

// publishDisks shows the live links, with parents and changeIds, in the
// configuration, in layoutEx, and to the mock VDDK library under @vms.
func (vm *VM) publishDisks(ctx *simulator.Context) {
	assign(ctx, vm, "config.hardware.device", withBackings(vm.Config.Hardware.Device, func(key int32) (*link, string) {
		if d := vm.disks[key]; d != nil {
			return d.live, d.track.changeID()
		}
		return nil, ""
	}))
	layout := *vm.LayoutEx
	layout.File = slices.Clone(layout.File)
	vm.LayoutEx = &layout
	vm.RefreshStorageInfo(ctx, nil)
	vm.LayoutEx.File = slices.DeleteFunc(vm.LayoutEx.File, func(f types.VirtualMachineFileLayoutExFileInfo) bool {
		return private(f.Name)
	})

	var names []string
	storage := types.VirtualMachineStorageSummary{Timestamp: time.Now()}
	for _, d := range vm.disks {
		for _, k := range d.links {
			names = append(names, k.name)
			if st, err := os.Stat(k.file); err == nil {
				storage.Committed += st.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		storage.Uncommitted += d.capacity
	}
	storage.Uncommitted, storage.Unshared = max(0, storage.Uncommitted-storage.Committed), storage.Committed
	assign(ctx, vm, "summary.storage", storage)
	slices.Sort(names)
	_ = os.WriteFile(filepath.Join(vm.lab.root, "@vms", vm.Self.Value), []byte(strings.Join(names, "\n")+"\n"), 0o644)
}

// withBackings returns devices in which every disk has the backing of the
// link that of gives for its key.
func withBackings(devices []types.BaseVirtualDevice, of func(key int32) (*link, string)) []types.BaseVirtualDevice {
	devices = slices.Clone(devices)
	for i := range devices {
		v, ok := devices[i].(*types.VirtualDisk)
		if !ok {
			continue
		}
		k, changeID := of(v.Key)
		if k == nil {
			continue
		}
		disk := *v
		disk.Backing = backing(*v.Backing.(*types.VirtualDiskFlatVer2BackingInfo), k, changeID)
		devices[i] = &disk
	}
	return devices
}

func backing(b types.VirtualDiskFlatVer2BackingInfo, k *link, changeID string) *types.VirtualDiskFlatVer2BackingInfo {
	b.FileName, b.ChangeId, b.Parent = k.name, changeID, nil
	if k.parent != nil {
		b.Parent = backing(b, k.parent, "")
	}
	return &b
}
