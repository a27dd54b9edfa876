package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func (r *rig) properties() (vm mo.VirtualMachine) {
	r.Helper()
	r.ok(r.c.RetrieveOne(r.ctx, r.vm.Reference(), []string{"name", "config", "runtime", "snapshot", "guest.toolsRunningStatus", "guest.ipAddress"}, &vm))
	return vm
}

// What a client sees, and what a guest wrote, is the same after a restart, and
// a warm copy that began before it goes on after it.
func TestRestart(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.post("/vms/web/tools", map[string]string{"state": "running"})
	s0 := r.snapshot("s0")
	id := back(r.config(s0)).ChangeId
	r.write(70000, []byte("between"))
	s1 := r.snapshot("s1")
	at1 := bytes.Clone(r.want)
	r.write(size-700, []byte("at the end"))
	r.ok(r.done(r.vm.Reconfigure(r.ctx, types.VirtualMachineConfigSpec{
		Annotation: "moved", ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "guestinfo.a", Value: "b"}},
	})))
	before, frozen, fingerprint := r.properties(), r.config(s1), r.lab.cert.sha256()
	exposed := filepath.Join(r.lab.root, "datastore1/web/web-000002.vmdk@"+s1.Value)
	r.ok(os.Remove(exposed)) // as if the kill had come before it was made
	stray := filepath.Join(r.lab.root, "datastore1/web/web-000099-flat.vmdk")
	r.ok(os.WriteFile(stray, nil, 0o600)) // as if the kill had come before it was known

	r.restart()
	after := r.properties()
	for _, vm := range []*mo.VirtualMachine{&before, &after} {
		vm.Config.Modified = before.Config.Modified
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if !reflect.DeepEqual(frozen, r.config(s1)) || r.lab.cert.sha256() != fingerprint {
		t.Error("the snapshot or the certificate changed")
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("a stray delta is still there")
	}
	if _, err := os.Stat(exposed); err != nil {
		t.Error(err)
	}
	info, err := r.query(&s1, 2000, 0, id)
	r.ok(err)
	if len(info.ChangedArea) != 1 || info.ChangedArea[0].Start != grain {
		t.Errorf("changed between the snapshots: %+v", info.ChangedArea)
	}
	r.ok(r.remove(s0))
	if code, data := r.get(&r.c.Client.Client.Client, "web/web-flat.vmdk", "", false); code != 200 || !bytes.Equal(data, at1) {
		t.Errorf("the base is not what s1 froze: %d", code)
	}
	r.write(0, []byte("after"))
	r.ok(r.remove(s1))
	if on, err := os.ReadFile(filepath.Join(r.lab.root, "datastore1/web/web-flat.vmdk")); err != nil || !bytes.Equal(on, r.want) {
		t.Error("the consolidated disk differs")
	}
	r.restart() // and from a state that was restored before
	if s := r.snapshot("new"); s == s1 || len(r.properties().Snapshot.RootSnapshotList) != 1 {
		t.Errorf("snapshot %s again", s.Value)
	}
}

// A grain of which a kill let only a part be written shows the parent again.
func TestHalfWrittenGrain(t *testing.T) {
	r := newRig(t)
	s := r.snapshot("s")
	f, err := os.OpenFile(filepath.Join(r.lab.root, "datastore1/web/web-000001-flat.vmdk"), os.O_RDWR, 0)
	r.ok(err)
	_, err = f.WriteAt(make([]byte, 4096), 3*grain)
	r.ok(err)
	r.ok(f.Close())
	r.restart()
	r.ok(r.remove(s))
	if on, err := os.ReadFile(filepath.Join(r.lab.root, "datastore1/web/web-flat.vmdk")); err != nil || !bytes.Equal(on, r.want) {
		t.Error("the torn grain hides its parent")
	}
}

// Going back to a snapshot brings back Tools and configuration (R38).
func TestRevertRestoresTheGuest(t *testing.T) {
	r := newRig(t)
	r.post("/vms/web/tools", map[string]string{"state": "running"})
	s := r.snapshot("with tools")
	r.post("/vms/web/tools", map[string]string{"state": "none"})
	r.ok(r.done(r.vm.Reconfigure(r.ctx, types.VirtualMachineConfigSpec{Annotation: "no tools", ChangeTrackingEnabled: types.NewBool(true)})))
	r.ok(r.done(r.vm.RevertToSnapshot(r.ctx, s.Value, true)))
	r.ok(r.done(r.vm.PowerOn(r.ctx)))
	vm := r.properties()
	if vm.Guest.ToolsRunningStatus != "guestToolsRunning" || vm.Config.Annotation != "" || *vm.Config.ChangeTrackingEnabled || vm.Name != "web" {
		t.Errorf("tools %s, annotation %q", vm.Guest.ToolsRunningStatus, vm.Config.Annotation)
	}
}

func TestBootTime(t *testing.T) {
	r := newRig(t)
	first := r.properties().Runtime.BootTime
	r.post("/vms/web/reboot", nil)
	second := r.properties().Runtime.BootTime
	r.post("/vms/web/shutdown", nil)
	if vm := r.properties(); first == nil || !second.After(*first) || vm.Runtime.BootTime != nil || vm.Runtime.PowerState != "poweredOff" {
		t.Errorf("%v, %v, %+v", first, second, vm.Runtime)
	}
}

// A VM that was deleted stays away; the others keep their references.
func TestDestroyedStaysAway(t *testing.T) {
	r := newRig(t)
	other := r.lab.vms()[0].Self
	for _, vm := range r.lab.vms() {
		if vm.Name == "other" {
			other = vm.Self
		}
	}
	r.ok(r.done(object.NewVirtualMachine(r.c.Client, other).Destroy(r.ctx)))
	before := r.vm.Reference()
	r.restart()
	if all := r.lab.vms(); len(all) != 1 || all[0].Self != before {
		t.Errorf("after the restart: %v", all)
	}
}
