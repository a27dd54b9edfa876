package main

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// operations are what the served WSDL lists: what a migration asks of a
// vCenter. The simulator answers more.
var operations = []any{
	methods.RetrieveServiceContentBody{}, methods.CurrentTimeBody{},
	methods.LoginBody{}, methods.LogoutBody{}, methods.SessionIsActiveBody{}, methods.TerminateSessionBody{},
	methods.RetrievePropertiesExBody{}, methods.ContinueRetrievePropertiesExBody{}, methods.CancelRetrievePropertiesExBody{},
	methods.CreatePropertyCollectorBody{}, methods.DestroyPropertyCollectorBody{}, methods.CreateFilterBody{},
	methods.DestroyPropertyFilterBody{}, methods.WaitForUpdatesExBody{}, methods.CancelWaitForUpdatesBody{},
	methods.CreateContainerViewBody{}, methods.CreateListViewBody{}, methods.DestroyViewBody{},
	methods.FindByUuidBody{}, methods.FindByInventoryPathBody{}, methods.HasPrivilegeOnEntityBody{},
	methods.PowerOnVM_TaskBody{}, methods.PowerOffVM_TaskBody{}, methods.ResetVM_TaskBody{}, methods.ShutdownGuestBody{}, methods.RebootGuestBody{},
	methods.ReconfigVM_TaskBody{}, methods.Rename_TaskBody{}, methods.RefreshStorageInfoBody{},
	methods.MountToolsInstallerBody{}, methods.UnmountToolsInstallerBody{},
	methods.CreateSnapshot_TaskBody{}, methods.CreateSnapshotEx_TaskBody{}, methods.RemoveSnapshot_TaskBody{}, methods.RemoveAllSnapshots_TaskBody{},
	methods.RevertToSnapshot_TaskBody{}, methods.RevertToCurrentSnapshot_TaskBody{}, methods.ConsolidateVMDisks_TaskBody{},
	methods.QueryChangedDiskAreasBody{}, methods.CancelTaskBody{},
}

// polymorphic are types that appear only behind an xsi:type.
var polymorphic = []any{
	types.TraversalSpec{}, types.VirtualDisk{}, types.VirtualDiskFlatVer2BackingInfo{}, types.VirtualDiskRawDiskMappingVer1BackingInfo{},
	types.ParaVirtualSCSIController{}, types.VirtualLsiLogicController{}, types.VirtualLsiLogicSASController{}, types.VirtualBusLogicController{},
	types.VirtualIDEController{}, types.VirtualAHCIController{}, types.VirtualNVMEController{}, types.VirtualTPM{}, types.VirtualPCIPassthrough{},
	types.VirtualCdrom{}, types.VirtualCdromIsoBackingInfo{}, types.VirtualCdromRemotePassthroughBackingInfo{},
	types.VirtualVmxnet3{}, types.VirtualE1000{}, types.VirtualE1000e{}, types.VirtualEthernetCardNetworkBackingInfo{},
	types.VirtualEthernetCardDistributedVirtualPortBackingInfo{}, types.OptionValue{}, types.TaskInfo{}, types.VirtualMachineConfigInfo{},
	types.VirtualMachineRuntimeInfo{}, types.GuestInfo{}, types.VirtualMachineSnapshotInfo{}, types.VirtualMachineCapability{},
	types.ArrayOfVirtualDevice{}, types.ArrayOfManagedObjectReference{}, types.ArrayOfGuestNicInfo{}, types.ArrayOfOptionValue{},
	types.ArrayOfString{}, types.ArrayOfVirtualMachineSnapshotTree{},
}

var wsdl = sync.OnceValue(func() []byte {
	w := &wsdlWriter{done: map[string]bool{}}
	var messages, ports, bindings strings.Builder
	for _, body := range operations {
		kind := reflect.TypeOf(body)
		request, _ := kind.FieldByName("Req")
		response, _ := kind.FieldByName("Res")
		name := request.Type.Elem().Name()
		for _, part := range []reflect.Type{request.Type.Elem(), response.Type.Elem()} {
			fmt.Fprintf(&w.schema, "<element name=%q><complexType>", part.Name())
			w.sequence(part)
			w.schema.WriteString("</complexType></element>\n")
			fmt.Fprintf(&messages, "<message name=%q><part name=\"parameters\" element=\"vim25:%s\"/></message>\n", part.Name()+"Msg", part.Name())
		}
		fmt.Fprintf(&ports, "<operation name=%q><input message=\"vim25:%sMsg\"/><output message=\"vim25:%sMsg\"/></operation>\n", name, name, response.Type.Elem().Name())
		fmt.Fprintf(&bindings, "<operation name=%q><soap:operation soapAction=\"urn:vim25/6.5\" style=\"document\"/><input><soap:body use=\"literal\"/></input><output><soap:body use=\"literal\"/></output></operation>\n", name)
	}
	for _, sample := range polymorphic {
		w.name(reflect.TypeOf(sample))
	}
	for len(w.wanted) > 0 {
		kind := w.wanted[0]
		w.wanted = w.wanted[1:]
		w.complexType(kind)
	}
	var all bytes.Buffer
	fmt.Fprintf(&all, `<?xml version="1.0" encoding="UTF-8"?>
<definitions targetNamespace="urn:vim25" xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:vim25="urn:vim25" xmlns:xsd="%s">
<types><schema targetNamespace="urn:vim25" elementFormDefault="qualified" xmlns="%s">
<complexType name="ManagedObjectReference"><simpleContent><extension base="xsd:string"><attribute name="type" type="xsd:string"/><attribute name="serverGuid" type="xsd:string"/></extension></simpleContent></complexType>
%s</schema></types>
%s<portType name="VimPortType">
%s</portType>
<binding name="VimBinding" type="vim25:VimPortType"><soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
%s</binding>
<service name="VimService"><port name="VimPort" binding="vim25:VimBinding"><soap:address location="https://localhost/sdk"/></port></service>
</definitions>
`, xsdNamespace, xsdNamespace, w.schema.String(), messages.String(), ports.String(), bindings.String())
	return all.Bytes()
})

func serveWSDL(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = w.Write(wsdl())
}

// serveTypes is as long as a real vCenter's file of all types, some 2 MiB: who
// loads it sees what the network carries. The simulator has fewer types; what
// is missing is a comment.
func serveTypes(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = w.Write(wsdl())
	_, _ = fmt.Fprintf(w, "<!--%s-->\n", strings.Repeat(" ", max(0, 2<<20-len(wsdl()))))
}

// wsdlWriter writes the schema of all types that something refers to.
type wsdlWriter struct {
	schema strings.Builder
	done   map[string]bool
	wanted []reflect.Type
}

var simpleNames = map[reflect.Kind]string{
	reflect.String: "string", reflect.Bool: "boolean", reflect.Int8: "byte", reflect.Uint8: "byte", reflect.Int16: "short",
	reflect.Int32: "int", reflect.Int64: "long", reflect.Float32: "float", reflect.Float64: "double",
}

// name is the schema's name of a Go type; the type itself will be written too.
func (w *wsdlWriter) name(kind reflect.Type) string {
	switch {
	case kind == moRefType:
		return "vim25:ManagedObjectReference"
	case kind == timeType:
		return "xsd:dateTime"
	case kind.Kind() == reflect.Slice:
		return "xsd:base64Binary"
	case kind.Kind() == reflect.Interface:
		base, ok := types.TypeFunc()(schemaName(kind))
		if !ok {
			return "xsd:anyType"
		}
		return w.name(base)
	case kind.Kind() != reflect.Struct:
		return "xsd:" + simpleNames[kind.Kind()]
	}
	if !w.done[kind.Name()] {
		w.done[kind.Name()] = true
		w.wanted = append(w.wanted, kind)
	}
	return "vim25:" + kind.Name()
}

func (w *wsdlWriter) complexType(kind reflect.Type) {
	fmt.Fprintf(&w.schema, "<complexType name=%q>", kind.Name())
	if kind.NumField() > 0 && kind.Field(0).Anonymous {
		fmt.Fprintf(&w.schema, "<complexContent><extension base=%q>", w.name(kind.Field(0).Type))
		w.sequence(kind)
		w.schema.WriteString("</extension></complexContent>")
	} else {
		w.sequence(kind)
	}
	w.schema.WriteString("</complexType>\n")
}

// sequence writes the fields of the type itself, without its base's.
func (w *wsdlWriter) sequence(kind reflect.Type) {
	own := elementsOf(kind)
	if kind.NumField() > 0 && kind.Field(0).Anonymous {
		own = slices.Clone(own[len(elementsOf(kind.Field(0).Type)):])
	}
	w.schema.WriteString("<sequence>")
	for _, e := range own {
		occurs := ""
		if e.many {
			occurs = ` minOccurs="0" maxOccurs="unbounded"`
		} else if !e.required {
			occurs = ` minOccurs="0"`
		}
		fmt.Fprintf(&w.schema, "<element name=%q type=%q%s/>", e.name, w.name(e.kind), occurs)
	}
	w.schema.WriteString("</sequence>")
}
