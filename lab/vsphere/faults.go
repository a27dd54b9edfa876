package main

import (
	"fmt"
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// faultTexts gives failed tasks a text for people; the simulator writes the
// name of a Go type there.
type faultTexts struct{}

func (faultTexts) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "FaultTexts", Value: "lab"}
}
func (faultTexts) PutObject(*simulator.Context, mo.Reference)                    {}
func (faultTexts) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

func (faultTexts) UpdateObject(_ *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	task, ok := object.(*mo.Task)
	if !ok || task.Info.Error == nil {
		return
	}
	said := types.LocalizedMethodFault{Fault: task.Info.Error.Fault, LocalizedMessage: faultText(task.Info.Error.Fault)}
	task.Info.Error = &said
	for i := range changes {
		if changes[i].Name == "info.error" {
			changes[i].Val = said
		}
	}
}

func faultText(fault types.BaseMethodFault) string {
	switch f := fault.(type) {
	case *types.TaskInProgress:
		return "Another task is already in progress."
	case *types.FileLocked:
		return "Unable to access file " + f.File + " since it is locked."
	case *types.NoDiskSpace:
		return "Insufficient disk space on datastore " + f.Datastore + "."
	case *types.ConcurrentAccess:
		return "The object has already been modified since the configuration was read."
	case *types.InvalidPowerState:
		return fmt.Sprintf("The attempted operation cannot be performed in the current state (%s).", f.ExistingState)
	}
	return "The operation failed: " + reflect.TypeOf(fault).Elem().Name() + "."
}
