package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// setProperty sets one property, given as JSON, of the object with that name
// or reference: a VM, a host, a datastore, "LicenseManager"...
func (l *Lab) setProperty(name, path string, value json.RawMessage) (err error) {
	obj := l.find(name)
	if obj == nil {
		return fmt.Errorf("no object %q", name)
	}
	kind, err := typeAt(reflect.TypeOf(obj), strings.Split(path, "."))
	if err != nil {
		return fmt.Errorf("%s of %s: %w", path, name, err)
	}
	v := reflect.New(kind)
	if err := json.Unmarshal(value, v.Interface()); err != nil {
		return err
	}
	defer func() { // the simulator's reflection knows no other refusal
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%s: %v", path, reason)
		}
	}()
	ctx := l.context()
	ctx.WithLock(obj, func() { assign(ctx, obj, path, v.Elem().Interface()) })
	return nil
}

func (l *Lab) find(name string) mo.Reference {
	for _, obj := range l.model.Map().AllReference("") {
		if obj.Reference().Value == name {
			return obj
		}
		if e, ok := obj.(mo.Entity); ok && e.Entity().Name == name {
			return obj
		}
	}
	return nil
}

// typeAt follows the names that vim25 gives to fields.
func typeAt(kind reflect.Type, path []string) (reflect.Type, error) {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if len(path) == 0 {
		return kind, nil
	}
	if kind.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(kind) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == path[0] {
				return typeAt(f.Type, path[1:])
			}
		}
	}
	return nil, fmt.Errorf("no field %q", path[0])
}

// authorization is the simulator's, except for rights the lab took away.
type authorization struct {
	*simulator.AuthorizationManager
	lab *Lab
}

func (m *authorization) HasPrivilegeOnEntity(req *types.HasPrivilegeOnEntity) soap.HasFault {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	answer := &granted{}
	answer.Res = new(struct {
		Returnval []*bool `xml:"returnval"`
	})
	for _, id := range req.PrivId {
		answer.Res.Returnval = append(answer.Res.Returnval, types.NewBool(!m.lab.denied[id]))
	}
	return answer
}

// granted is the answer with a false where it belongs: encoded by govmomi's
// own type, false is left out of a list.
type granted struct {
	Res *struct {
		Returnval []*bool `xml:"returnval"`
	} `xml:"urn:vim25 HasPrivilegeOnEntityResponse"`
}

func (*granted) Fault() *soap.Fault { return nil }
