package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// Scenario is the inventory and the credentials a lab starts with. The same in
// TypeScript, with a word on each field, is scenario.ts.
type Scenario struct {
	User           string          `json:"user"`
	Password       string          `json:"password"`
	APIVersion     string          `json:"apiVersion"`
	SessionTimeout string          `json:"sessionTimeout"`
	Datacenter     string          `json:"datacenter"`
	Hosts          int             `json:"hosts"`
	HostNames      []string        `json:"hostNames"`
	Datastores     []DatastoreSpec `json:"datastores"`
	VMs            []VMSpec        `json:"vms"`
	Paging         Paging          `json:"paging"`
}

// DatastoreSpec is one folder under the lab's root.
type DatastoreSpec struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	FreeSpace int64  `json:"freeSpace"`
}

// VMSpec describes one virtual machine; its datastore is the first by default.
type VMSpec struct {
	Name            string     `json:"name"`
	InstanceUUID    string     `json:"instanceUuid"`
	Datastore       string     `json:"datastore"`
	Firmware        string     `json:"firmware"`
	SecureBoot      bool       `json:"secureBoot"`
	VTPM            bool       `json:"vtpm"`
	Encrypted       bool       `json:"encrypted"`
	GuestID         string     `json:"guestId"`
	HostName        string     `json:"hostName"`
	Version         string     `json:"version"`
	CPUs            int32      `json:"cpus"`
	MemoryMiB       int64      `json:"memoryMiB"`
	Annotation      string     `json:"annotation"`
	PoweredOn       bool       `json:"poweredOn"`
	Tools           string     `json:"tools"`           // running, stopped or none (default)
	ShutdownSeconds float64    `json:"shutdownSeconds"` // negative: the guest ignores it
	Tracking        bool       `json:"changeTracking"`
	NICs            []NICSpec  `json:"nics"`
	Disks           []DiskSpec `json:"disks"`
	CDROMs          []struct {
		ISO string `json:"iso"`
	} `json:"cdroms"`
	Devices []string `json:"devices"` // by vim25 type name
}

// NICSpec is a vmxnet3 card unless it says otherwise.
type NICSpec struct {
	Type    string   `json:"type"`
	Network string   `json:"network"`
	MAC     string   `json:"mac"`
	IPs     []string `json:"ips"`
}

// DiskSpec is a disk filled from File, if given, and at least CapacityBytes large.
type DiskSpec struct {
	File          string `json:"file"`
	CapacityBytes int64  `json:"capacityBytes"`
	Controller    string `json:"controller"`
	Mode          string `json:"mode"`
	RDM           string `json:"rdm"`
	Encrypted     bool   `json:"encrypted"`
	MultiWriter   bool   `json:"multiWriter"`
	SharedBus     string `json:"sharedBus"`
	NoTracking    bool   `json:"noTracking"`
	Shown         *Shown `json:"shown"`
}

// Shown is how the configuration shows a disk's backing instead of as it is:
// a type of vim25 and fields of it, for what this lab cannot make.
type Shown struct {
	Type   string          `json:"type"`
	Fields json.RawMessage `json:"fields"`
}

// ReadScenario reads a scenario; relative disk files lie beside it.
func ReadScenario(path string) (sc Scenario, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return sc, err
	}
	if err = json.Unmarshal(text, &sc); err != nil {
		return sc, fmt.Errorf("%s: %w", path, err)
	}
	sc.User = or(sc.User, "administrator@vsphere.local")
	if sc.Password == "" {
		sc.Password = rand.Text()
	}
	sc.Datacenter = or(sc.Datacenter, datacenter)
	if len(sc.Datastores) == 0 {
		sc.Datastores = []DatastoreSpec{{Name: "datastore1"}}
	}
	for _, vm := range sc.VMs {
		for i, d := range vm.Disks {
			if d.File != "" && !filepath.IsAbs(d.File) {
				vm.Disks[i].File = filepath.Join(filepath.Dir(path), d.File)
			}
		}
	}
	return sc, nil
}

func (l *Lab) addDatastore(ctx context.Context, f *find.Finder, spec DatastoreSpec) error {
	dir := filepath.Join(l.root, spec.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hosts, err := f.HostSystemList(ctx, "*")
	if err != nil {
		return err
	}
	for _, host := range hosts {
		system, err := host.ConfigManager().DatastoreSystem(ctx)
		if err != nil {
			return err
		}
		if _, err = system.CreateLocalDatastore(ctx, spec.Name, dir); err != nil {
			return err
		}
	}
	return nil
}

// addVM has the simulator make a VM, and notes in spec what was worked out.
func (l *Lab) addVM(ctx context.Context, f *find.Finder, spec *VMSpec) (*simulator.VirtualMachine, error) {
	spec.Datastore = or(spec.Datastore, l.Datastores[0].Name)
	devices, err := l.devicesOf(ctx, f, spec)
	if err != nil {
		return nil, err
	}
	changes, err := devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	if err != nil {
		return nil, err
	}
	folder, err := f.DefaultFolder(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := f.DefaultResourcePool(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := f.HostSystemList(ctx, "*")
	if err != nil {
		return nil, err
	}
	task, err := folder.CreateVM(ctx, types.VirtualMachineConfigSpec{
		Name:                  spec.Name,
		InstanceUuid:          spec.InstanceUUID,
		GuestId:               or(spec.GuestID, string(types.VirtualMachineGuestOsIdentifierDebian12_64Guest)),
		Annotation:            spec.Annotation,
		Version:               or(spec.Version, "vmx-19"),
		Firmware:              or(spec.Firmware, "bios"),
		BootOptions:           &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(spec.SecureBoot)},
		Files:                 &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] %s/%s.vmx", spec.Datastore, spec.Name, spec.Name)},
		NumCPUs:               max(spec.CPUs, 1),
		MemoryMB:              max(spec.MemoryMiB, 512),
		ChangeTrackingEnabled: types.NewBool(spec.Tracking),
		DeviceChange:          changes,
	}, pool, hosts[0])
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return nil, err
	}
	return l.model.Map().Get(info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine), nil
}

// placeDatacenter gives the only datacenter the path it is to have.
func (l *Lab) placeDatacenter(ctx context.Context, c *vim25.Client, dc *object.Datacenter) error {
	if l.Datacenter == datacenter {
		return nil
	}
	parts := strings.Split(l.Datacenter, "/")
	folder := object.NewRootFolder(c)
	for _, name := range parts[:len(parts)-1] {
		var err error
		if folder, err = folder.CreateFolder(ctx, name); err != nil {
			return err
		}
		task, err := folder.MoveInto(ctx, []types.ManagedObjectReference{dc.Reference()})
		if err != nil {
			return err
		}
		if err = task.Wait(ctx); err != nil {
			return err
		}
	}
	task, err := dc.Rename(ctx, parts[len(parts)-1])
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// localPath turns "[ds] dir/file" into a path on this machine.
func (l *Lab) localPath(name string) string {
	var p object.DatastorePath
	p.FromString(name)
	return filepath.Join(l.root, p.Datastore, filepath.FromSlash(p.Path))
}

func extentName(vmdk string) string { return strings.TrimSuffix(vmdk, ".vmdk") + "-flat.vmdk" }

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
