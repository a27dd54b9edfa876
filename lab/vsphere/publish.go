package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// publishName shows the name and the notes in all the places they have.
func (vm *VM) publishName(ctx *simulator.Context) {
	assign(ctx, vm, "config.name", vm.Name)
	assign(ctx, vm, "summary.config.name", vm.Name)
	assign(ctx, vm, "summary.config.annotation", vm.Config.Annotation)
}

// publishBoot shows when the guest started: a time.Time, or nil.
func (vm *VM) publishBoot(ctx *simulator.Context, at any) {
	assign(ctx, vm, "runtime.bootTime", at)
	assign(ctx, vm, "summary.runtime.bootTime", at)
}

// publishMethods shows what the power state rules out, as a vCenter does: that
// alone is no sign of another product at work. Only tasks: the simulator refuses
// other methods of this list by itself, with another fault than a vCenter does.
func (vm *VM) publishMethods(ctx *simulator.Context) {
	disabled := []string{"PowerOffVM_Task", "SuspendVM_Task", "ResetVM_Task"}
	if vm.on() {
		disabled = []string{"PowerOnVM_Task", "Destroy_Task", "UpgradeVM_Task"}
	}
	assign(ctx, vm, "disabledMethod", disabled)
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
	vm.save()
}

// publishConnections plugs in, or unplugs, what is connected at power on.
func (vm *VM) publishConnections(ctx *simulator.Context) {
	devices := slices.Clone(vm.Config.Hardware.Device)
	for i, device := range devices {
		was := device.GetVirtualDevice().Connectable
		if was == nil {
			continue
		}
		now := *was
		now.Connected = vm.on() && was.StartConnected
		replaced := reflect.New(reflect.TypeOf(device).Elem())
		replaced.Elem().Set(reflect.ValueOf(device).Elem())
		devices[i] = replaced.Interface().(types.BaseVirtualDevice)
		devices[i].GetVirtualDevice().Connectable = &now
	}
	assign(ctx, vm, "config.hardware.device", devices)
}

// publishDisks shows the live links, with parents and changeIds, in the
// configuration, in layoutEx, and to the mock VDDK library under @vms.
func (vm *VM) publishDisks(ctx *simulator.Context) {
	assign(ctx, vm, "config.hardware.device", withBackings(vm.Config.Hardware.Device, func(key int32) types.BaseVirtualDeviceBackingInfo {
		if d := vm.disks[key]; d != nil {
			return d.backing(d.live, d.track.changeID())
		}
		return nil
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
	vm.save()
}

// withBackings returns devices in which every disk has the backing that of
// gives for its key.
func withBackings(devices []types.BaseVirtualDevice, of func(key int32) types.BaseVirtualDeviceBackingInfo) []types.BaseVirtualDevice {
	devices = slices.Clone(devices)
	for i := range devices {
		if v, ok := devices[i].(*types.VirtualDisk); ok {
			if b := of(v.Key); b != nil {
				disk := *v
				disk.Backing = b
				devices[i] = &disk
			}
		}
	}
	return devices
}
