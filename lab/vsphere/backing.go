package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// outside says whether snapshots leave the disk alone.
func (d *disk) outside() bool {
	return strings.HasPrefix(d.like.DiskMode, "independent") || d.spec.RDM == string(types.VirtualDiskCompatibilityModePhysicalMode)
}

// backing shows a link, and its parents, as the configuration does.
func (d *disk) backing(k *link, changeID string) types.BaseVirtualDeviceBackingInfo {
	if d.spec.RDM != "" {
		return d.mapping(k, changeID)
	}
	if b := d.shown(k); b != nil {
		return b
	}
	return d.flat(k, changeID)
}

func (d *disk) shown(k *link) types.BaseVirtualDeviceBackingInfo {
	if d.spec.Shown == nil {
		return nil
	}
	kind, known := types.TypeFunc()(d.spec.Shown.Type)
	if !known {
		return nil
	}
	// The simulator keeps its books by file, so nothing else can be shown.
	b, ok := reflect.New(kind).Interface().(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return nil
	}
	*b.GetVirtualDeviceFileBackingInfo() = d.like.VirtualDeviceFileBackingInfo
	b.GetVirtualDeviceFileBackingInfo().FileName = k.name
	if mode := reflect.ValueOf(b).Elem().FieldByName("DiskMode"); mode.IsValid() {
		mode.SetString(d.like.DiskMode)
	}
	_ = json.Unmarshal(d.spec.Shown.Fields, b)
	return b.(types.BaseVirtualDeviceBackingInfo)
}

func (d *disk) flat(k *link, changeID string) *types.VirtualDiskFlatVer2BackingInfo {
	b := d.like
	b.FileName, b.ChangeId, b.Parent = k.name, changeID, nil
	if k.parent != nil {
		b.Parent = d.flat(k.parent, "")
	}
	return &b
}

func (d *disk) mapping(k *link, changeID string) *types.VirtualDiskRawDiskMappingVer1BackingInfo {
	b := &types.VirtualDiskRawDiskMappingVer1BackingInfo{
		VirtualDeviceFileBackingInfo: d.like.VirtualDeviceFileBackingInfo,
		LunUuid:                      fmt.Sprintf("0200000000%032x", d.key), DeviceName: fmt.Sprintf("vml.0200000000%032x", d.key),
		CompatibilityMode: d.spec.RDM, DiskMode: d.like.DiskMode, Uuid: d.like.Uuid, ChangeId: changeID, Sharing: d.like.Sharing,
	}
	b.FileName = k.name
	if k.parent != nil {
		b.Parent = d.mapping(k.parent, "")
	}
	return b
}

// follow takes over what a backing says apart from its link.
func (d *disk) follow(backing types.BaseVirtualDeviceBackingInfo) {
	switch b := backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		d.like = *b
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		d.like = types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: b.VirtualDeviceFileBackingInfo, DiskMode: b.DiskMode, Uuid: b.Uuid, Sharing: b.Sharing,
		}
	}
}
