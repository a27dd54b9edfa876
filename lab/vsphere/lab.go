package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const datacenter = "DC0" // the simulator's name for its only one

// Lab is a running simulated vCenter.
type Lab struct {
	Scenario
	state  string // the folder that is kept
	root   string // its part with the datastores
	cert   certificate
	model  *simulator.Model
	server *simulator.Server

	mu     sync.Mutex // guards what follows, and Scenario.Paging
	rules  []*Rule
	calls  []Call
	locked map[string]bool // VMs whose files somebody holds open
}

// Start makes the inventory in a new state folder and serves it.
func Start(state, scenario, listen string) (*Lab, error) {
	state, err := filepath.Abs(state)
	if err != nil {
		return nil, err
	}
	sc, err := ReadScenario(scenario)
	if err != nil {
		return nil, err
	}
	l := &Lab{Scenario: sc, state: state, root: filepath.Join(state, "datastores"), locked: map[string]bool{}}
	if err := os.MkdirAll(l.root, 0o755); err != nil {
		return nil, err
	}
	if l.cert, err = keptCertificate(filepath.Join(state, "tls.pem")); err != nil {
		return nil, err
	}
	m := simulator.VPX()
	m.Machine, m.Datastore, m.Host, m.ClusterHost = 0, 0, 0, max(sc.Hosts, 1)
	if sc.APIVersion != "" {
		m.ServiceContent.About.Version, m.ServiceContent.About.ApiVersion = sc.APIVersion, sc.APIVersion
	}
	// A task takes its object's lock when it runs, not when it is asked for.
	simulator.TaskDelay = simulator.DelayConfig{MethodDelay: map[string]int{"LockHandoff": 0}}
	if err := m.Create(); err != nil {
		return nil, err
	}
	l.model = m
	if err := l.populate(context.Background()); err != nil {
		m.Remove()
		return nil, err
	}
	m.Map().Handler = l.intercept
	m.Service.Listen = &url.URL{Host: listen, User: url.UserPassword(sc.User, sc.Password)}
	m.Service.TLS = &tls.Config{Certificates: []tls.Certificate{l.cert.Certificate}}
	m.Service.ServeMux = http.NewServeMux()
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		m.Service.ServeMux.HandleFunc(method+" /folder/", l.serveFolder) // beats the simulator's own, open to all
	}
	l.server = m.Service.NewServer()
	return l, nil
}

func (l *Lab) populate(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(l.root, "@vms"), 0o755); err != nil {
		return err
	}
	c, err := vim25.NewClient(ctx, l.model.Service) // in process, no login
	if err != nil {
		return err
	}
	f := find.NewFinder(c)
	dc, err := f.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	f.SetDatacenter(dc)
	for _, ds := range l.Datastores {
		if err := l.addDatastore(ctx, f, ds); err != nil {
			return err
		}
	}
	for _, vm := range l.VMs {
		if err := l.addVM(ctx, f, c, vm); err != nil {
			return fmt.Errorf("%s: %w", vm.Name, err)
		}
	}
	for _, spec := range l.Datastores { // the simulator has booked thin disks in full
		if ds, err := l.datastore(spec.Name); err == nil {
			ds.Summary.FreeSpace = spec.FreeSpace
			if spec.FreeSpace == 0 {
				ds.Summary.FreeSpace = 1 << 40
			}
		}
	}
	if l.SessionTimeout != "" {
		option := &types.OptionValue{Key: "config.vmacore.soap.sessionTimeout", Value: l.SessionTimeout}
		return object.NewOptionManager(c, *c.ServiceContent.Setting).Update(ctx, []types.BaseOptionValue{option})
	}
	return nil
}

// Close ends the server and removes the simulator's own temporary files.
func (l *Lab) Close() { l.server.Close(); l.model.Remove() }

// URL is the SDK's address, without credentials.
func (l *Lab) URL() string { u := *l.server.URL; u.User = nil; return u.String() }

// context is an identity for work that no client asked for.
func (l *Lab) context() *simulator.Context {
	return &simulator.Context{
		Context: context.Background(),
		Map:     l.model.Map(),
		Session: &simulator.Session{
			UserSession: types.UserSession{Key: "lab"}, Registry: simulator.NewRegistry(), Map: l.model.Map(),
		},
	}
}

func (l *Lab) vms() (all []*VM) {
	for _, e := range l.model.Map().All("VirtualMachine") {
		if vm, ok := e.(*VM); ok {
			all = append(all, vm)
		}
	}
	return all
}

func (l *Lab) datastore(name string) (*simulator.Datastore, error) {
	for _, e := range l.model.Map().All("Datastore") {
		if ds := e.(*simulator.Datastore); ds.Name == name {
			return ds, nil
		}
	}
	return nil, fmt.Errorf("no datastore %q", name)
}

// post adds an event to the event manager's history.
func post(ctx *simulator.Context, e types.BaseEvent) {
	m := ctx.Map.EventManager()
	ctx.WithLock(m, func() { m.PostEvent(ctx, &types.PostEvent{EventToPost: e}) })
}

// assign publishes one property; nothing nested is ever changed in place,
// because answers are encoded after the object's lock is gone.
func assign(ctx *simulator.Context, obj mo.Reference, path string, val any) {
	ctx.Update(obj, []types.PropertyChange{{Name: path, Val: val}})
}
