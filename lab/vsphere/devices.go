package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

func (l *Lab) devicesOf(ctx context.Context, f *find.Finder, spec *VMSpec) (devices object.VirtualDeviceList, err error) {
	for i := range spec.Disks {
		if err := addDisk(&devices, spec, i); err != nil {
			return nil, err
		}
	}
	for _, n := range spec.NICs {
		if err := addNIC(ctx, f, &devices, n); err != nil {
			return nil, err
		}
	}
	for _, cd := range spec.CDROMs {
		controller, err := controllerFor(&devices, "ide")
		if err != nil {
			return nil, err
		}
		drive, err := devices.CreateCdrom(controller)
		if err != nil {
			return nil, err
		}
		drive.Backing = &types.VirtualCdromRemotePassthroughBackingInfo{} // an empty drive
		if cd.ISO != "" {
			drive = devices.InsertIso(drive, cd.ISO)
		}
		devices = append(devices, drive)
	}
	others := spec.Devices
	if spec.VTPM {
		others = append([]string{"VirtualTPM"}, others...)
	}
	for _, name := range others {
		kind, ok := types.TypeFunc()(name)
		if !ok {
			return nil, fmt.Errorf("no device type %q", name)
		}
		device, ok := reflect.New(kind).Interface().(types.BaseVirtualDevice)
		if !ok {
			return nil, fmt.Errorf("%q is no device", name)
		}
		device.GetVirtualDevice().Key = devices.NewKey()
		devices = append(devices, device)
	}
	number(devices)
	return devices, nil
}

func addDisk(devices *object.VirtualDeviceList, spec *VMSpec, i int) error {
	d := &spec.Disks[i]
	d.Controller = or(d.Controller, "pvscsi")
	if st, err := os.Stat(d.File); err == nil {
		d.CapacityBytes = max(d.CapacityBytes, st.Size())
	} else if d.File != "" {
		return err
	}
	if d.CapacityBytes <= 0 || d.CapacityBytes%512 != 0 {
		return fmt.Errorf("disk %d has %d bytes, which is no multiple of 512", i, d.CapacityBytes)
	}
	controller, err := controllerFor(devices, d.Controller)
	if err != nil {
		return err
	}
	if scsi, ok := controller.(types.BaseVirtualSCSIController); ok && d.SharedBus != "" {
		scsi.GetVirtualSCSIController().SharedBus = types.VirtualSCSISharing(d.SharedBus)
	}
	name := fmt.Sprintf("[%s] %s/%s", spec.Datastore, spec.Name, spec.Name)
	if i > 0 {
		name += fmt.Sprintf("_%d", i)
	}
	disk := devices.CreateDisk(controller, types.ManagedObjectReference{}, name+".vmdk")
	disk.CapacityInBytes, disk.CapacityInKB = d.CapacityBytes, d.CapacityBytes>>10
	backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	backing.DiskMode, backing.ThinProvisioned = or(d.Mode, "persistent"), types.NewBool(true)
	if d.MultiWriter {
		backing.Sharing = string(types.VirtualDiskSharingSharingMultiWriter)
	}
	*devices = append(*devices, disk)
	return nil
}

func addNIC(ctx context.Context, f *find.Finder, devices *object.VirtualDeviceList, n NICSpec) error {
	network, err := f.Network(ctx, or(n.Network, "VM Network"))
	if err != nil {
		return err
	}
	backing, err := network.EthernetCardBackingInfo(ctx)
	if err != nil {
		return err
	}
	card, err := devices.CreateEthernetCard(or(n.Type, "vmxnet3"), backing)
	if err != nil {
		return err
	}
	if n.MAC != "" {
		nic := card.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
		nic.MacAddress, nic.AddressType = n.MAC, string(types.VirtualEthernetCardMacTypeManual)
	}
	*devices = append(*devices, card)
	return nil
}

// controllerFor returns the controller of a kind, made when first wanted.
func controllerFor(devices *object.VirtualDeviceList, kind string) (types.BaseVirtualController, error) {
	var device types.BaseVirtualDevice
	var err error
	switch kind {
	case "ide":
		device, err = devices.CreateIDEController()
	case "sata":
		device, err = devices.CreateSATAController()
	case "nvme":
		device, err = devices.CreateNVMEController()
	default:
		device, err = devices.CreateSCSIController(kind)
	}
	if err != nil {
		return nil, err
	}
	if have := devices.SelectByType(device); len(have) > 0 {
		return have[0].(types.BaseVirtualController), nil
	}
	*devices = append(*devices, device)
	return device.(types.BaseVirtualController), nil
}

// numbering is how vSphere numbers and names a kind of device. Devices on a
// controller count from the key by unit, others by order.
type numbering struct {
	key     int32
	by      string // order, or unit
	label   string
	belongs func(types.BaseVirtualDevice) bool
}

func is[T any](d types.BaseVirtualDevice) bool { _, ok := d.(T); return ok }

func diskOn[T any](devices object.VirtualDeviceList) func(types.BaseVirtualDevice) bool {
	return func(d types.BaseVirtualDevice) bool {
		return is[*types.VirtualDisk](d) && is[T](devices.FindByKey(d.GetVirtualDevice().ControllerKey))
	}
}

// number gives devices the keys and labels they would have on vSphere.
func number(devices object.VirtualDeviceList) {
	moved, label := map[int32]int32{}, map[string]int{}
	kinds := []numbering{ // controllers last: disks are told apart by them
		{2000, "unit", "Hard disk", diskOn[types.BaseVirtualSCSIController](devices)},
		{3000, "unit", "Hard disk", diskOn[*types.VirtualIDEController](devices)},
		{16000, "unit", "Hard disk", diskOn[*types.VirtualAHCIController](devices)},
		{32000, "unit", "Hard disk", diskOn[*types.VirtualNVMEController](devices)},
		{3000, "unit", "CD/DVD drive", is[*types.VirtualCdrom]},
		{4000, "order", "Network adapter", is[types.BaseVirtualEthernetCard]},
		{11000, "order", "Virtual TPM", is[*types.VirtualTPM]},
		{13000, "order", "PCI device", is[*types.VirtualPCIPassthrough]},
		{1000, "order", "SCSI controller", is[types.BaseVirtualSCSIController]},
		{200, "order", "IDE", is[*types.VirtualIDEController]},
		{15000, "order", "SATA controller", is[*types.VirtualAHCIController]},
		{31000, "order", "NVME controller", is[*types.VirtualNVMEController]},
	}
	keys := make([]int32, len(devices))
	for i, device := range devices {
		d := device.GetVirtualDevice()
		keys[i] = d.Key
		place := slices.IndexFunc(kinds, func(k numbering) bool { return k.belongs(device) })
		if place < 0 {
			continue
		}
		kind := kinds[place]
		count := label[kind.label]
		label[kind.label]++
		keys[i] = kind.key + int32(count)
		if kind.by == "unit" {
			keys[i] = kind.key + *d.UnitNumber
		}
		if !is[types.BaseVirtualController](device) {
			count++ // "Hard disk 1", but "SCSI controller 0"
		}
		d.DeviceInfo = &types.Description{Label: fmt.Sprintf("%s %d", kind.label, count)}
		if is[types.BaseVirtualController](device) {
			moved[d.Key] = keys[i]
		}
	}
	for i, device := range devices {
		d := device.GetVirtualDevice()
		d.Key = keys[i]
		if to, ok := moved[d.ControllerKey]; ok {
			d.ControllerKey = to
		}
	}
}

// attach tells controllers of a finished VM which devices are theirs.
func attach(devices object.VirtualDeviceList) {
	for _, device := range devices {
		if c, ok := device.(types.BaseVirtualController); ok {
			controller := c.GetVirtualController()
			controller.Device = nil
			for _, other := range devices {
				if d := other.GetVirtualDevice(); d.ControllerKey == controller.Key {
					controller.Device = append(controller.Device, d.Key)
				}
			}
		}
	}
}
