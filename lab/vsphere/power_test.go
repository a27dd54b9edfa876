package main

import (
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// Power on, reset and reboot start the guest anew; cards are plugged in while it runs.
func TestPowerAndConnections(t *testing.T) {
	r := newRig(t)
	connected := func() bool {
		vm := r.properties()
		card := object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualEthernetCard)(nil))[0]
		return card.GetVirtualDevice().Connectable.Connected
	}
	first := r.properties().Runtime.BootTime
	r.ok(r.done(r.vm.Reset(r.ctx)))
	if second := r.properties().Runtime.BootTime; !second.After(*first) || !connected() {
		t.Errorf("reset: %v, then %v", first, second)
	}
	r.fails(r.vm.RebootGuest(r.ctx), &types.ToolsUnavailable{})
	r.ok(r.done(r.vm.Suspend(r.ctx)))
	r.fails(r.done(r.vm.Reset(r.ctx)), &types.InvalidPowerState{})
	r.ok(r.done(r.vm.PowerOn(r.ctx)))
	r.ok(r.done(r.vm.PowerOff(r.ctx)))
	if connected() || r.properties().Runtime.BootTime != nil {
		t.Error("the VM is off, but its card is connected or it has a boot time")
	}
}
