package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const datacenter = "DC0" // the simulator's name for its only one, which it keeps unless the scenario has another

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
	power  []PowerChange
	locked map[string]bool // VMs whose files somebody holds open
	seen   []string        // keys of all sessions that ever asked for something
	denied map[string]bool // rights the account lacks
}

// Start serves the vCenter of a state folder: made by the scenario file if the
// folder is new, else as an earlier run left it.
func Start(state, scenario, listen string) (*Lab, error) {
	state, err := filepath.Abs(state)
	if err != nil {
		return nil, err
	}
	l := &Lab{state: state, root: filepath.Join(state, "datastores"), locked: map[string]bool{}}
	center := savedCenter{InstanceUUID: uuid.NewString()}
	if err = loadJSON(l.centerFile(), &center); errors.Is(err, os.ErrNotExist) {
		center.Scenario, err = ReadScenario(scenario)
	}
	if err != nil {
		return nil, err
	}
	l.Scenario = center.Scenario
	if err := l.prepare(center.Starts > 0); err != nil {
		return nil, err
	}
	m := simulator.VPX()
	m.Machine, m.Datastore, m.Host, m.ClusterHost = 0, 0, 0, max(l.Hosts, 1)
	m.ServiceContent.About.InstanceUuid = center.InstanceUUID
	if about := &m.ServiceContent.About; l.APIVersion != "" {
		about.Version, about.ApiVersion, about.FullName = l.APIVersion, l.APIVersion, "VMware vCenter Server "+l.APIVersion
	}
	// A task takes its object's lock when it runs, not when it is asked for.
	simulator.TaskDelay = simulator.DelayConfig{MethodDelay: map[string]int{"LockHandoff": 0}}
	if err := m.Create(); err != nil {
		return nil, err
	}
	l.model = m
	if err := l.populate(context.Background(), center.Starts > 0); err != nil {
		m.Remove()
		return nil, err
	}
	if center.Starts > 0 {
		if err := skipReferences(l.context(), center.Starts); err != nil {
			return nil, err
		}
	}
	center.Starts, center.Scenario = center.Starts+1, l.Scenario
	if err := saveJSON(l.centerFile(), center); err != nil {
		return nil, err
	}
	m.Map().AddHandler(faultTexts{})
	m.Map().Handler = l.intercept
	m.Service.Listen = &url.URL{Host: listen, User: url.UserPassword(l.User, l.Password)}
	m.Service.TLS = &tls.Config{Certificates: []tls.Certificate{l.cert.Certificate}}
	m.Service.ServeMux = http.NewServeMux()
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		m.Service.ServeMux.HandleFunc(method+" /folder/", l.serveFolder) // beats the simulator's own, open to all
	}
	m.Service.ServeMux.HandleFunc("POST /sdk", l.serveSDK)
	m.Service.ServeMux.HandleFunc("GET /sdk/vimService.wsdl", serveWSDL)
	m.Service.ServeMux.HandleFunc("GET /sdk/vim-types.xsd", serveTypes)
	l.server = m.Service.NewServer()
	return l, nil
}

func (l *Lab) centerFile() string { return filepath.Join(l.state, "vcenter.json") }

// aside is where the datastores wait while the simulator makes its inventory:
// it insists on making the files of each VM.
func (l *Lab) aside() string { return l.root + ".aside" }

// prepare makes the state folder ready for populate.
func (l *Lab) prepare(restart bool) (err error) {
	if restart {
		if _, err := os.Stat(l.aside()); err != nil { // else a kill left them there
			if err := os.Rename(l.root, l.aside()); err != nil {
				return err
			}
		}
	}
	// What is left now is of a start that did not come to its end.
	if err := os.RemoveAll(l.root); err != nil {
		return err
	}
	for _, dir := range []string{l.root, filepath.Join(l.state, "vms")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	l.cert, err = keptCertificate(filepath.Join(l.state, "tls.pem"))
	return err
}

func (l *Lab) populate(ctx context.Context, restart bool) error {
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
	made := make([]*simulator.VirtualMachine, len(l.VMs))
	for i := range l.VMs {
		if made[i], err = l.addVM(ctx, f, &l.VMs[i]); err != nil {
			return fmt.Errorf("%s: %w", l.VMs[i].Name, err)
		}
	}
	if restart {
		if err := os.RemoveAll(l.root); err != nil {
			return err
		}
		if err := os.Rename(l.aside(), l.root); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(l.root, "@vms"), 0o755); err != nil {
		return err
	}
	for i, spec := range l.VMs {
		if _, err := os.Stat(l.stateFile(made[i].Self)); restart && os.IsNotExist(err) {
			made[i].UnregisterVM(l.context(), &types.UnregisterVM{This: made[i].Self}) // as in an earlier run
			continue
		}
		vm, err := newVM(l, made[i], spec, restart)
		if err != nil {
			return fmt.Errorf("%s: %w", spec.Name, err)
		}
		l.model.Map().Put(vm) // from now on calls reach our type
		for j := range spec.Disks {
			spec.Disks[j].File = "" // a restart does not need it
		}
	}
	manager := l.model.Map().Get(*l.model.ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	l.model.Map().Put(&authorization{manager, l})
	if err := l.nameHosts(ctx, f); err != nil {
		return err
	}
	for _, spec := range l.Datastores { // the simulator has booked thin disks in full, and makes none on vSAN
		if ds, err := l.datastore(spec.Name); err == nil {
			ds.Summary.Type = or(spec.Type, "VMFS")
			ds.Summary.FreeSpace = spec.FreeSpace
			if spec.FreeSpace == 0 {
				ds.Summary.FreeSpace = 1 << 40
			}
		}
	}
	if err := l.placeDatacenter(ctx, c, dc); err != nil {
		return fmt.Errorf("%s: %w", l.Datacenter, err)
	}
	if l.SessionTimeout != "" {
		option := &types.OptionValue{Key: "config.vmacore.soap.sessionTimeout", Value: l.SessionTimeout}
		return object.NewOptionManager(c, *c.ServiceContent.Setting).Update(ctx, []types.BaseOptionValue{option})
	}
	return nil
}

// nameHosts gives the ESXi hosts names that lead somewhere: clients of VDDK
// talk to them, by the names the inventory has.
func (l *Lab) nameHosts(ctx context.Context, f *find.Finder) error {
	hosts, err := f.HostSystemList(ctx, "*")
	for i, host := range hosts {
		name := fmt.Sprintf("127.0.0.%d", i+1)
		if i < len(l.HostNames) {
			name = l.HostNames[i]
		}
		ctx, obj := l.context(), l.model.Map().Get(host.Reference())
		ctx.WithLock(obj, func() {
			assign(ctx, obj, "name", name)
			assign(ctx, obj, "summary.config.name", name)
		})
	}
	return err
}

// Close ends the server once its requests are answered, and removes the
// simulator's own temporary files.
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
