package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const size = 4<<20 + 12345*512 // no multiple of a grain

// rig is a lab, a client logged in over TLS, and what the disk should hold.
type rig struct {
	*testing.T
	ctx   context.Context
	dir   string
	lab   *Lab
	admin *httptest.Server
	c     *govmomi.Client
	vm    *object.VirtualMachine
	want  []byte
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	want := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(want[:1<<20])
	if err := os.WriteFile(filepath.Join(dir, "seed"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	scenario := `{"user":"u","password":"p","vms":[{"name":"other","disks":[{"capacityBytes":512}]},{"name":"web","firmware":"efi","poweredOn":true,"tools":"none",
		"nics":[{"mac":"00:50:56:00:00:01","ips":["10.0.0.5"]}],"disks":[{"file":"seed"},{"capacityBytes":1048576,"mode":"independent_persistent"}]}]}`
	if err := os.WriteFile(filepath.Join(dir, "s.json"), []byte(scenario), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, ctx: context.Background(), dir: dir, want: want}
	r.start()
	t.Cleanup(func() { r.admin.Close(); r.lab.Close() })
	return r
}

// start opens the state folder; restart does so again, as after a crash:
// nothing is saved at the end, what is there must do.
func (r *rig) start() {
	r.Helper()
	var err error
	r.lab, err = Start(filepath.Join(r.dir, "state"), filepath.Join(r.dir, "s.json"), "127.0.0.1:0")
	r.ok(err)
	r.admin = httptest.NewServer(r.lab.Admin())
	r.c = r.login("p")
	r.vm, err = find.NewFinder(r.c.Client).VirtualMachine(r.ctx, "/DC0/vm/web")
	r.ok(err)
}

func (r *rig) restart() {
	r.Helper()
	r.admin.Close()
	r.lab.Close()
	r.start()
}

func (r *rig) login(password string) *govmomi.Client {
	u, err := url.Parse(r.lab.URL())
	r.ok(err)
	u.User = url.UserPassword("u", password)
	c, err := govmomi.NewClient(r.ctx, u, true)
	if password == "p" {
		r.ok(err)
	} else {
		r.fails(err, &types.InvalidLogin{})
	}
	return c
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) fails(err error, want types.BaseMethodFault) {
	r.Helper()
	if !fault.Is(err, want) {
		r.Fatalf("want %T, got %v", want, err)
	}
}

func (r *rig) done(t *object.Task, err error) error {
	if err != nil {
		return err
	}
	return t.Wait(r.ctx)
}

func (r *rig) post(path string, body any) {
	r.Helper()
	data, ok := body.([]byte)
	if !ok {
		data, _ = json.Marshal(body)
	}
	res, err := http.Post(r.admin.URL+path, "", bytes.NewReader(data))
	r.ok(err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		r.Fatalf("%s: %s", path, text)
	}
}

func (r *rig) write(offset int, data []byte) {
	r.Helper()
	r.post(fmt.Sprintf("/vms/web/write?disk=2000&offset=%d", offset), data)
	copy(r.want[offset:], data)
}

func (r *rig) config(ref types.ManagedObjectReference) *types.VirtualDisk {
	r.Helper()
	var config types.VirtualMachineConfigInfo
	if ref.Type == "VirtualMachine" {
		var vm mo.VirtualMachine
		r.ok(r.c.RetrieveOne(r.ctx, ref, []string{"config"}, &vm))
		config = *vm.Config
	} else {
		var s mo.VirtualMachineSnapshot
		r.ok(r.c.RetrieveOne(r.ctx, ref, []string{"config"}, &s))
		config = s.Config
	}
	return object.VirtualDeviceList(config.Hardware.Device).FindByKey(2000).(*types.VirtualDisk)
}

func back(d *types.VirtualDisk) *types.VirtualDiskFlatVer2BackingInfo {
	return d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
}

func (r *rig) snapshot(name string) types.ManagedObjectReference {
	r.Helper()
	t, err := r.vm.CreateSnapshotEx(r.ctx, name, "", false, nil)
	r.ok(err)
	info, err := t.WaitForResult(r.ctx, nil)
	r.ok(err)
	return info.Result.(types.ManagedObjectReference)
}

func (r *rig) remove(s types.ManagedObjectReference) error {
	consolidate := true
	return r.done(r.vm.RemoveSnapshot(r.ctx, s.Value, false, &consolidate))
}

func (r *rig) enable() {
	r.Helper()
	r.ok(r.done(r.vm.Reconfigure(r.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)})))
	r.ok(r.remove(r.snapshot("stun")))
}

func (r *rig) query(s *types.ManagedObjectReference, key int32, offset int64, id string) (types.DiskChangeInfo, error) {
	res, err := methods.QueryChangedDiskAreas(r.ctx, r.c.Client, &types.QueryChangedDiskAreas{
		This: r.vm.Reference(), Snapshot: s, DeviceKey: key, StartOffset: offset, ChangeId: id,
	})
	if err != nil {
		return types.DiskChangeInfo{}, err
	}
	return res.Returnval, nil
}

func (r *rig) get(c *http.Client, path, ranged string, basic bool) (int, []byte) {
	req, err := http.NewRequest("GET", strings.TrimSuffix(r.lab.URL(), "/sdk")+"/folder/"+path+"?dcPath=DC0&dsName=datastore1", nil)
	r.ok(err)
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	if basic {
		req.SetBasicAuth("u", "p")
	}
	res, err := c.Do(req)
	r.ok(err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	r.ok(err)
	return res.StatusCode, data
}

// A hot base copy over /folder plus what tracking reports is the final disk.
func TestWarmCopy(t *testing.T) {
	r := newRig(t)
	if code, _ := r.get(&r.c.Client.Client.Client, "web/web-flat.vmdk", "", false); code != 500 {
		t.Fatalf("a running disk was readable: %d", code)
	}
	r.enable()
	s0 := r.snapshot("s0")
	frozen := bytes.Clone(r.want)
	live := back(r.config(r.vm.Reference()))
	if live.FileName != "[datastore1] web/web-000002.vmdk" || live.Parent == nil || live.Parent.FileName != "[datastore1] web/web.vmdk" {
		t.Fatalf("live disk %s, parent %v", live.FileName, live.Parent)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { // the guest goes on writing
		defer wg.Done()
		for i := range 40 {
			r.write((i*7919*512)%(size-4000), bytes.Repeat([]byte{byte(i + 1)}, 3000))
		}
	}()
	code, copied := r.get(&r.c.Client.Client.Client, "web/web-flat.vmdk", "", false)
	wg.Wait()
	if code != 200 || !bytes.Equal(copied, frozen) {
		t.Fatalf("base copy: %d, equal %v", code, bytes.Equal(copied, frozen))
	}
	id := back(r.config(s0)).ChangeId
	r.ok(r.remove(s0))
	r.ok(r.done(r.vm.PowerOff(r.ctx)))
	s1 := r.snapshot("s1")
	r.post("/paging", Paging{Extents: 2, Span: 512 << 10})
	pages, empty := 0, 0
	for offset := int64(0); offset < size; pages++ {
		info, err := r.query(&s1, 2000, offset, id)
		r.ok(err)
		if info.StartOffset != offset || info.Length <= 0 || len(info.ChangedArea) > 2 {
			t.Fatalf("page %+v", info)
		}
		if len(info.ChangedArea) == 0 {
			empty++
		}
		for _, a := range info.ChangedArea {
			code, data := r.get(&r.c.Client.Client.Client, "web/web-flat.vmdk", fmt.Sprintf("bytes=%d-%d", a.Start, a.Start+a.Length-1), false)
			if code != 206 {
				t.Fatalf("range answered %d", code)
			}
			copy(copied[a.Start:], data)
		}
		offset = info.StartOffset + info.Length
	}
	if pages < 3 || !bytes.Equal(copied, r.want) {
		t.Fatalf("%d pages, %d empty, equal %v", pages, empty, bytes.Equal(copied, r.want))
	}
	r.ok(r.remove(s1))
	if on, err := os.ReadFile(filepath.Join(r.lab.root, "datastore1/web/web-flat.vmdk")); err != nil || !bytes.Equal(on, r.want) {
		t.Fatal("the consolidated disk differs")
	}
	left, _ := filepath.Glob(filepath.Join(r.lab.root, "datastore1/web/*-00000*"))
	if len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestChangeTrackingFaults(t *testing.T) {
	r := newRig(t)
	s := r.snapshot("untracked")
	_, err := r.query(&s, 2000, 0, "*")
	r.fails(err, &types.FileFault{})
	r.ok(r.remove(s))
	r.enable()
	s = r.snapshot("s")
	id := back(r.config(s)).ChangeId
	for _, c := range []struct {
		key    int32
		offset int64
		id     string
		want   types.BaseMethodFault
	}{
		{2000, size, id, &types.InvalidArgument{}},
		{2000, -1, id, &types.InvalidArgument{}},
		{2000, 0, "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/1", &types.InvalidArgument{}},
		{2000, 0, "nonsense", &types.InvalidArgument{}},
		{2001, 0, "*", &types.NotFound{}},
		{2999, 0, "*", &types.NotFound{}},
	} {
		_, err := r.query(&s, c.key, c.offset, c.id)
		r.fails(err, c.want)
	}
	info, err := r.query(&s, 2000, 0, "*")
	r.ok(err)
	if len(info.ChangedArea) == 0 || info.ChangedArea[0].Start != 0 {
		t.Errorf("allocated: %+v", info)
	}
	r.ok(r.done(r.vm.RevertToSnapshot(r.ctx, s.Value, true)))
	s = r.snapshot("after revert")
	_, err = r.query(&s, 2000, 0, id)
	if err == nil || !strings.Contains(err.Error(), "changeId") {
		t.Errorf("a revert kept the epoch: %v", err)
	}
}

// A VM that is off needs no stun, and its tracking survives the next start.
func TestTrackingAtRest(t *testing.T) {
	r := newRig(t)
	r.ok(r.done(r.vm.PowerOff(r.ctx)))
	stale := types.VirtualMachineConfigSpec{ChangeVersion: "0", ChangeTrackingEnabled: types.NewBool(true)}
	r.fails(r.done(r.vm.Reconfigure(r.ctx, stale)), &types.ConcurrentAccess{})
	r.ok(r.done(r.vm.Reconfigure(r.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)})))
	s := r.snapshot("s")
	id := back(r.config(s)).ChangeId
	r.ok(r.remove(s))
	r.ok(r.done(r.vm.PowerOn(r.ctx)))
	r.write(200<<10, make([]byte, 1))
	_, err := r.query(nil, 2000, 0, id)
	r.fails(err, &types.FileFault{}) // running: only with a snapshot
	r.ok(r.done(r.vm.PowerOff(r.ctx)))
	info, err := r.query(nil, 2000, 0, id)
	r.ok(err)
	if len(info.ChangedArea) != 1 || info.ChangedArea[0].Start != 192<<10 || info.ChangedArea[0].Length != grain || info.Length != size {
		t.Errorf("changed: %+v", info)
	}
}

func TestRevertAndBranches(t *testing.T) {
	r := newRig(t)
	a := r.snapshot("a")
	r.write(100, []byte("after a"))
	r.snapshot("b")
	copy(r.want[100:], make([]byte, 7))
	seed, err := os.ReadFile(filepath.Join(r.dir, "seed"))
	r.ok(err)
	copy(r.want, seed)
	r.ok(r.done(r.vm.RevertToSnapshot(r.ctx, a.Value, true)))
	var vm mo.VirtualMachine
	r.ok(r.c.RetrieveOne(r.ctx, r.vm.Reference(), []string{"snapshot", "runtime"}, &vm))
	if *vm.Snapshot.CurrentSnapshot != a || vm.Runtime.PowerState != "poweredOff" {
		t.Fatalf("after revert: %+v", vm.Runtime)
	}
	r.ok(r.done(r.vm.PowerOn(r.ctx)))
	r.write(5, []byte("other branch"))
	r.snapshot("c")
	r.write(1<<20, []byte("newest"))
	consolidate := true
	r.ok(r.done(r.vm.RemoveAllSnapshot(r.ctx, &consolidate)))
	if on, err := os.ReadFile(filepath.Join(r.lab.root, "datastore1/web/web-flat.vmdk")); err != nil || !bytes.Equal(on, r.want) {
		t.Fatal("the consolidated disk differs")
	}
}

func TestTasksAndGuest(t *testing.T) {
	r := newRig(t)
	r.fails(r.vm.ShutdownGuest(r.ctx), &types.ToolsUnavailable{})
	r.post("/vms/web/tools", map[string]string{"state": "running"})
	var vm mo.VirtualMachine
	r.ok(r.c.RetrieveOne(r.ctx, r.vm.Reference(), []string{"guest", "config"}, &vm))
	if vm.Guest.IpAddress != "10.0.0.5" || vm.Guest.Net[0].MacAddress != "00:50:56:00:00:01" || vm.Config.Firmware != "efi" {
		t.Fatalf("guest %+v", vm.Guest)
	}

	r.post("/rules", Rule{Method: "CreateSnapshotEx_Task", Fault: "ApplicationQuiesceFault", Count: 1})
	tk, err := r.vm.CreateSnapshotEx(r.ctx, "x", "", false, nil)
	r.fails(r.done(tk, err), &types.ApplicationQuiesceFault{})

	// A slow task leaves the VM readable, and refuses company.
	r.post("/rules", Rule{Method: "CreateSnapshotEx_Task", Seconds: 0.5, Count: 1})
	tk, err = r.vm.CreateSnapshotEx(r.ctx, "slow", "", false, nil)
	r.ok(err)
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	r.ok(r.c.RetrieveOne(r.ctx, r.vm.Reference(), []string{"recentTask"}, &vm))
	if time.Since(begin) > 300*time.Millisecond {
		t.Error("the VM was locked during a slow task")
	}
	r.fails(r.done(r.vm.PowerOff(r.ctx)), &types.TaskInProgress{})
	r.ok(tk.Wait(r.ctx))

	r.post("/vms/web/lock", map[string]bool{"locked": true})
	r.ok(r.done(r.vm.RemoveAllSnapshot(r.ctx, nil)))
	r.ok(r.c.RetrieveOne(r.ctx, r.vm.Reference(), []string{"runtime"}, &vm))
	consolidate := func() error {
		res, err := methods.ConsolidateVMDisks_Task(r.ctx, r.c.Client, &types.ConsolidateVMDisks_Task{This: r.vm.Reference()})
		r.ok(err)
		return object.NewTask(r.c.Client, res.Returnval).Wait(r.ctx)
	}
	if !vm.Runtime.ConsolidationNeeded {
		t.Error("consolidationNeeded is not set")
	}
	r.fails(consolidate(), &types.FileLocked{})
	r.post("/vms/web/lock", map[string]bool{"locked": false})
	reader, err := os.Open(filepath.Join(r.lab.root, "datastore1/web/web-flat.vmdk")) // as a forgotten nbdkit would
	r.ok(err)
	r.fails(consolidate(), &types.FileLocked{})
	r.ok(reader.Close())
	r.ok(consolidate())

	r.ok(r.vm.ShutdownGuest(r.ctx))
	wait, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	r.ok(r.vm.WaitForPowerState(wait, types.VirtualMachinePowerStatePoweredOff))

	r.post("/datastores/datastore1", map[string]int{"freeSpace": 0})
	tk, err = r.vm.CreateSnapshotEx(r.ctx, "full", "", false, nil)
	r.fails(r.done(tk, err), &types.NoDiskSpace{})
}

func TestSessions(t *testing.T) {
	r := newRig(t)
	r.login("wrong")
	plain := &http.Client{Transport: r.c.Client.Client.Client.Transport}
	r.ok(r.done(r.vm.PowerOff(r.ctx)))
	for _, c := range []struct {
		client *http.Client
		basic  bool
		want   int
	}{{plain, false, 401}, {plain, true, 200}, {&r.c.Client.Client.Client, false, 200}} {
		if code, _ := r.get(c.client, "web/web-flat.vmdk", "", c.basic); code != c.want {
			t.Errorf("basic %v: %d, want %d", c.basic, code, c.want)
		}
	}
	session, err := r.c.SessionManager.UserSession(r.ctx)
	if err != nil || !slices.Contains(r.lab.seen, session.Key) {
		t.Errorf("session %v is not among %v: %v", session, r.lab.seen, err)
	}
	r.post("/sessions/expire", nil)
	_, err = methods.GetCurrentTime(r.ctx, r.c.Client)
	r.fails(err, &types.NotAuthenticated{})
	if code, _ := r.get(&r.c.Client.Client.Client, "web/web-flat.vmdk", "", false); code != 401 {
		t.Errorf("/folder after expiry: %d", code)
	}
}
