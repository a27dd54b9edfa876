package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func (l *Lab) paging() Paging {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Paging
}

func (l *Lab) isLocked(vm string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locked[vm]
}

// Admin is the handler of the endpoint through which tests play the guest,
// the administrator and misfortune.
func (l *Lab) Admin() http.Handler {
	mux := http.NewServeMux()
	on := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	on("GET /vms", func(r *http.Request) (any, error) { return l.describe(), nil })
	// The guest writes the body at ?disk=KEY&offset=BYTES.
	on("POST /vms/{vm}/write", func(r *http.Request) (any, error) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		key, _ := strconv.Atoi(r.URL.Query().Get("disk"))
		offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
		if err != nil {
			return nil, err
		}
		return len(data), l.withVM(r, func(ctx *simulator.Context, vm *VM) error {
			d := vm.disks[int32(key)]
			if d == nil || !vm.on() {
				return fmt.Errorf("no disk %d in a running VM", key)
			}
			return d.write(data, offset, vm.save)
		})
	})
	// {"state":"running"|"stopped"|"none"}
	on("POST /vms/{vm}/tools", func(r *http.Request) (any, error) {
		var body struct{ State string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, err
		}
		return body, l.withVM(r, func(ctx *simulator.Context, vm *VM) error {
			vm.spec.Tools = body.State
			vm.publishGuest(ctx)
			return nil
		})
	})
	// The guest's administrator restarts it, or shuts it down from inside.
	on("POST /vms/{vm}/reboot", func(r *http.Request) (any, error) {
		return nil, l.withVM(r, func(ctx *simulator.Context, vm *VM) error {
			if !vm.on() {
				return fmt.Errorf("%s does not run", vm.Name)
			}
			vm.reboot(ctx)
			return nil
		})
	})
	on("POST /vms/{vm}/shutdown", func(r *http.Request) (any, error) {
		return nil, l.withVM(r, func(ctx *simulator.Context, vm *VM) error {
			if !vm.on() {
				return fmt.Errorf("%s does not run", vm.Name)
			}
			vm.setPower(ctx, types.VirtualMachinePowerStatePoweredOff)
			return nil
		})
	})
	// {"path":"runtime.connectionState","value":"disconnected"}, on a VM, host, datastore...
	on("POST /objects/{name}/property", func(r *http.Request) (any, error) {
		var body struct {
			Path  string
			Value json.RawMessage
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, err
		}
		return nil, l.setProperty(r.PathValue("name"), body.Path, body.Value)
	})
	// {"denied":["VirtualMachine.State.CreateSnapshot"]}: rights the account does not have.
	on("POST /privileges", func(r *http.Request) (any, error) {
		var body struct{ Denied []string }
		err := json.NewDecoder(r.Body).Decode(&body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.denied = map[string]bool{}
		for _, id := range body.Denied {
			l.denied[id] = true
		}
		return body, err
	})
	// Tracking begins a new epoch, as after a storage migration or a crash.
	on("POST /vms/{vm}/reset-tracking", func(r *http.Request) (any, error) {
		return nil, l.withVM(r, func(ctx *simulator.Context, vm *VM) error {
			for _, d := range vm.disks {
				d.track.stop()
			}
			vm.stun()
			vm.publishDisks(ctx)
			return nil
		})
	})
	// {"locked":true}: somebody holds the files open, nothing can be merged.
	on("POST /vms/{vm}/lock", func(r *http.Request) (any, error) {
		var body struct{ Locked bool }
		err := json.NewDecoder(r.Body).Decode(&body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.locked[r.PathValue("vm")] = body.Locked
		return body, err
	})
	on("GET /sessions", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.seen), nil
	})
	on("POST /sessions/expire", func(r *http.Request) (any, error) { return l.expire() })
	on("POST /rules", func(r *http.Request) (any, error) {
		rule := &Rule{Count: 1}
		if err := json.NewDecoder(r.Body).Decode(rule); err != nil {
			return nil, err
		}
		if _, err := rule.fault(); err != nil {
			return nil, err
		}
		rule.Call = rule.Call || !ourTask(rule.Method)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rules = append(l.rules, rule)
		return rule, nil
	})
	on("GET /rules", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		waiting := []Rule{}
		for _, rule := range l.rules {
			if rule.Count > 0 {
				waiting = append(waiting, *rule)
			}
		}
		return waiting, nil
	})
	on("GET /power", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.power), nil
	})
	on("DELETE /rules", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rules = nil
		return nil, nil
	})
	on("GET /calls", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.calls), nil
	})
	on("DELETE /calls", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls = nil
		return nil, nil
	})
	on("POST /paging", func(r *http.Request) (any, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.Paging, json.NewDecoder(r.Body).Decode(&l.Paging)
	})
	// {"freeSpace":BYTES}
	on("POST /datastores/{name}", func(r *http.Request) (any, error) {
		ds, err := l.datastore(r.PathValue("name"))
		if err != nil {
			return nil, err
		}
		var body struct{ FreeSpace int64 }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, err
		}
		ctx := l.context()
		ctx.WithLock(ds, func() { assign(ctx, ds, "summary.freeSpace", body.FreeSpace) })
		return body, nil
	})
	return mux
}

func (l *Lab) withVM(r *http.Request, f func(*simulator.Context, *VM) error) (err error) {
	err = fmt.Errorf("no VM %q", r.PathValue("vm"))
	ctx := l.context()
	for _, vm := range l.vms() {
		ctx.WithLock(vm, func() {
			if vm.Name == r.PathValue("vm") || vm.Self.Value == r.PathValue("vm") {
				err = f(ctx, vm)
			}
		})
	}
	return err
}

// describe says what there is, for LabVm of admin.ts.
func (l *Lab) describe() []map[string]any {
	all := []map[string]any{}
	for _, vm := range l.vms() {
		ctx := l.context()
		ctx.WithLock(vm, func() {
			disks, snapshots := []map[string]any{}, []map[string]any{}
			for _, key := range slices.Sorted(maps.Keys(vm.disks)) {
				d, chain := vm.disks[key], []map[string]any{}
				for k := d.live; k != nil; k = k.parent {
					link := map[string]any{"name": k.name, "file": k.file}
					if k.frozen != nil {
						link["snapshot"] = k.frozen.ref.Value
					}
					chain = append(chain, link)
				}
				disks = append(disks, map[string]any{
					"deviceKey": d.key, "capacityBytes": d.capacity, "name": d.live.name, "base": d.links[0].file,
					"current": d.live.file, "chain": chain, "changeId": d.track.changeID(),
				})
			}
			for _, s := range vm.snapshots {
				snapshots = append(snapshots, map[string]any{"moRef": s.ref.Value, "name": s.node.Name, "description": s.node.Description})
			}
			all = append(all, map[string]any{
				"name": vm.Name, "moRef": vm.Self.Value, "powerState": vm.Runtime.PowerState, "bootTime": vm.Runtime.BootTime,
				"tools": or(vm.spec.Tools, "none"), "snapshots": snapshots, "disks": disks,
			})
		})
	}
	slices.SortFunc(all, func(a, b map[string]any) int { return strings.Compare(a["name"].(string), b["name"].(string)) })
	return all
}

// expire ends every session.
func (l *Lab) expire() (int, error) {
	ctx := l.context()
	m := ctx.Session.Get(*l.model.ServiceContent.SessionManager).(*simulator.SessionManager)
	for _, s := range m.SessionList {
		m.TerminateSession(ctx, &types.TerminateSession{SessionId: []string{s.Key}})
	}
	return len(m.SessionList), nil
}

func isTrue(res soap.HasFault) bool {
	body, ok := res.(*methods.SessionIsActiveBody)
	return ok && body.Res.Returnval
}
