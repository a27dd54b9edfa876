package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestStrictRequests(t *testing.T) {
	const envelope = `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"%s><e:Body>%s</e:Body></e:Envelope>`
	const xsd = ` xmlns:xsd="http://www.w3.org/2001/XMLSchema"`
	vm := func(method, rest string) string {
		return fmt.Sprintf(`<%s xmlns="urn:vim25"><_this type="VirtualMachine">vm-1</_this>%s</%s>`, method, rest, method)
	}
	for _, c := range []struct{ name, declared, body, complaint string }{
		{"right", "", vm("CreateSnapshotEx_Task", `<name>a</name><description>b</description><memory>false</memory><quiesceSpec xsi:type="VirtualMachineWindowsQuiesceSpec"><timeout>5</timeout></quiesceSpec>`), ""},
		{"optional left out", "", vm("CreateSnapshotEx_Task", `<name>a</name><memory>false</memory>`), ""},
		{"prefixes", "", `<v:ShutdownGuest xmlns:v="urn:vim25"><v:_this type="VirtualMachine">vm-1</v:_this></v:ShutdownGuest>`, ""},
		{"order", "", vm("CreateSnapshotEx_Task", `<description>b</description><name>a</name><memory>false</memory>`), "Got <name> tag when expecting <memory>"},
		{"order of optional ones", "", vm("ReconfigVM_Task", `<spec><changeTrackingEnabled>true</changeTrackingEnabled><name>a</name></spec>`), "Got <name> tag when expecting <firmware>"},
		{"order across the base type", "", vm("ReconfigVM_Task", `<spec><deviceChange><device xsi:type="VirtualDisk"><capacityInKB>1</capacityInKB><key>1</key></device></deviceChange></spec>`), "Got <key> tag when expecting <capacityInBytes>"},
		{"unknown element", "", vm("ShutdownGuest", `<now>true</now>`), `Unexpected element tag "now"`},
		{"required left out", "", vm("CreateSnapshotEx_Task", `<name>a</name>`), "Required property memory"},
		{"twice", "", vm("CreateSnapshotEx_Task", `<name>a</name><name>a</name><memory>false</memory>`), "Got <name> tag"},
		{"reference without a type", "", `<ShutdownGuest xmlns="urn:vim25"><_this>vm-1</_this></ShutdownGuest>`, "no type attribute"},
		{"no xsi:type where it is open", "", vm("ReconfigVM_Task", `<spec><extraConfig><key>a</key><value>b</value></extraConfig></spec>`), "<value> needs an xsi:type"},
		{"prefix not declared", "", vm("ReconfigVM_Task", `<spec><extraConfig><key>a</key><value xsi:type="xs:string">b</value></extraConfig></spec>`), "is not declared"},
		{"xsd declared", xsd, vm("ReconfigVM_Task", `<spec><extraConfig><key>a</key><value xsi:type="xsd:string">b</value></extraConfig></spec>`), ""},
		{"type that does not fit", "", vm("CreateSnapshotEx_Task", `<name>a</name><memory>false</memory><quiesceSpec xsi:type="Description"><label>a</label><summary>b</summary></quiesceSpec>`), "is of type Description"},
		{"not a number", "", vm("QueryChangedDiskAreas", `<deviceKey>first</deviceKey><startOffset>0</startOffset><changeId>*</changeId>`), "is no int32"},
		{"other namespace", "", `<ShutdownGuest xmlns="urn:vim24"><_this type="VirtualMachine">vm-1</_this></ShutdownGuest>`, "namespace"},
	} {
		_, err := checkRequest([]byte(fmt.Sprintf(envelope, c.declared, c.body)))
		if c.complaint == "" && err != nil || c.complaint != "" && (err == nil || !strings.Contains(err.Error(), c.complaint)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
