package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// A vCenter parses requests by its schema: elements in the schema's order,
// none unknown, none that is required left out, xsi:type wherever the declared
// type leaves it open. The simulator's decoder takes anything; this file does
// not. govmomi's types mirror the schema: embedded base first, fields in order.

const (
	vimNamespace = "urn:vim25"
	xsiNamespace = "http://www.w3.org/2001/XMLSchema-instance"
	xsdNamespace = "http://www.w3.org/2001/XMLSchema"
	soapEnvelope = "http://schemas.xmlsoap.org/soap/envelope/"
)

var (
	anyType    = reflect.TypeFor[types.AnyType]()
	timeType   = reflect.TypeFor[time.Time]()
	moRefType  = reflect.TypeFor[types.ManagedObjectReference]()
	binaryType = reflect.TypeFor[[]byte]()
	elements   sync.Map // reflect.Type -> []element
)

// checkRequest says what a vCenter would find wrong with a request. A method
// that govmomi does not know is left to the simulator to refuse.
func checkRequest(text []byte) (method string, err error) {
	p := &parser{Decoder: xml.NewDecoder(bytes.NewReader(text)), lookup: types.TypeFunc()}
	for {
		token, err := p.Token()
		if err != nil {
			return "", fmt.Errorf("no SOAP body: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		p.declare(start)
		switch {
		case start.Name == xml.Name{Space: soapEnvelope, Local: "Envelope"}, start.Name == xml.Name{Space: soapEnvelope, Local: "Body"}:
		case start.Name == xml.Name{Space: soapEnvelope, Local: "Header"}:
			if err := p.Skip(); err != nil {
				return "", err
			}
		default:
			kind, known := p.lookup(start.Name.Local)
			if !known {
				return start.Name.Local, nil
			}
			if start.Name.Space != vimNamespace {
				return start.Name.Local, fmt.Errorf("namespace of <%s> is %q instead of %q", start.Name.Local, start.Name.Space, vimNamespace)
			}
			if err := p.complex(start, kind); err != nil {
				return start.Name.Local, fmt.Errorf("%w\n\nwhile parsing call information for method %s", err, start.Name.Local)
			}
			return start.Name.Local, nil
		}
	}
}

type parser struct {
	*xml.Decoder
	lookup   types.Func
	prefixes []map[string]string // declared so far, outermost first
}

func (p *parser) declare(start xml.StartElement) {
	scope := map[string]string{}
	for _, a := range start.Attr {
		if a.Name.Space == "xmlns" {
			scope[a.Name.Local] = a.Value
		} else if a.Name.Space == "" && a.Name.Local == "xmlns" {
			scope[""] = a.Value
		}
	}
	p.prefixes = append(p.prefixes, scope)
}

// typeOf reads xsi:type, resolving its prefix.
func (p *parser) typeOf(start xml.StartElement) (xml.Name, error) {
	for _, a := range start.Attr {
		if a.Name.Space != xsiNamespace || a.Name.Local != "type" {
			continue
		}
		prefix, name, has := strings.Cut(a.Value, ":")
		if !has {
			prefix, name = "", a.Value
		}
		for _, scope := range slices.Backward(p.prefixes) {
			if uri, ok := scope[prefix]; ok {
				return xml.Name{Space: uri, Local: name}, nil
			}
		}
		if prefix == "xsd" { // govmomi's client declares it nowhere, and vCenters take that
			return xml.Name{Space: xsdNamespace, Local: name}, nil
		}
		return xml.Name{}, fmt.Errorf("prefix of xsi:type=%q on <%s> is not declared", a.Value, start.Name.Local)
	}
	return xml.Name{}, nil
}

// value checks an element of a declared type, up to its end tag.
func (p *parser) value(start xml.StartElement, declared reflect.Type) error {
	p.declare(start)
	defer func() { p.prefixes = p.prefixes[:len(p.prefixes)-1] }()
	given, err := p.typeOf(start)
	if err != nil {
		return err
	}
	kind := declared
	switch {
	case given.Space == xsdNamespace:
		if declared.Kind() == reflect.Struct && declared != timeType || declared.Kind() == reflect.Interface && declared != anyType {
			return fmt.Errorf("<%s> is of xsd type %s where %s is expected", start.Name.Local, given.Local, schemaName(declared))
		}
		_, err := p.text(start)
		return err
	case given.Local != "":
		actual, ok := p.lookup(given.Local)
		if !ok {
			return fmt.Errorf("<%s> is of the unknown type %s", start.Name.Local, given.Local)
		}
		fits := actual == declared || schemaName(declared) == given.Local ||
			declared.Kind() == reflect.Interface && reflect.PointerTo(actual).Implements(declared)
		if !fits {
			return fmt.Errorf("<%s> is of type %s where %s is expected", start.Name.Local, given.Local, schemaName(declared))
		}
		kind = actual
	case declared == anyType:
		return fmt.Errorf("<%s> needs an xsi:type", start.Name.Local)
	case declared.Kind() == reflect.Interface:
		base, ok := p.lookup(schemaName(declared))
		if !ok {
			return fmt.Errorf("<%s> needs an xsi:type", start.Name.Local)
		}
		kind = base
	}
	if kind.Kind() == reflect.Struct && kind != timeType && kind != moRefType {
		return p.complex(start, kind)
	}
	return p.simple(start, kind)
}

// complex checks children against the type's sequence.
func (p *parser) complex(start xml.StartElement, kind reflect.Type) error {
	all, at := elementsOf(kind), -1 // the place of the last child
	seen := map[int]bool{}
	for {
		token, err := p.Token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return fmt.Errorf("text %q inside <%s>", token, start.Name.Local)
			}
		case xml.EndElement:
			for i, e := range all {
				if e.required && !seen[i] {
					return fmt.Errorf("Required property %s is missing from data object of type %s", e.name, schemaName(kind))
				}
			}
			return nil
		case xml.StartElement:
			name := token.Name.Local
			place := slices.IndexFunc(all, func(e element) bool { return e.name == name })
			switch {
			case place < 0:
				return fmt.Errorf("Unexpected element tag %q seen in data object of type %s", name, schemaName(kind))
			case token.Name.Space != vimNamespace:
				return fmt.Errorf("namespace of <%s> is %q instead of %q", name, token.Name.Space, vimNamespace)
			case place < at, place == at && !all[at].many:
				expecting := "/" + start.Name.Local
				if at+1 < len(all) {
					expecting = all[at+1].name
				}
				return fmt.Errorf("Got <%s> tag when expecting <%s> in data object of type %s", name, expecting, schemaName(kind))
			}
			at, seen[place] = place, true
			if err := p.value(token, all[place].kind); err != nil {
				return err
			}
		}
	}
}

func (p *parser) text(start xml.StartElement) (string, error) {
	var text strings.Builder
	for {
		token, err := p.Token()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.StartElement:
			return "", fmt.Errorf("Unexpected element tag %q seen inside <%s>", token.Name.Local, start.Name.Local)
		case xml.EndElement:
			return text.String(), nil
		}
	}
}

// simple checks text: a number is a number, a reference says its type.
func (p *parser) simple(start xml.StartElement, kind reflect.Type) error {
	text, err := p.text(start)
	if err != nil {
		return err
	}
	text = strings.TrimSpace(text)
	switch {
	case kind == moRefType:
		if !slices.ContainsFunc(start.Attr, func(a xml.Attr) bool { return a.Name == xml.Name{Local: "type"} && a.Value != "" }) {
			err = errors.New("it has no type attribute")
		}
	case kind == timeType:
		if _, err = time.Parse(time.RFC3339Nano, text); err != nil { // xsd:dateTime may lack a zone
			_, err = time.Parse("2006-01-02T15:04:05.999999999", text)
		}
	case kind.Kind() == reflect.Bool:
		_, err = strconv.ParseBool(text)
	case kind.Kind() >= reflect.Int && kind.Kind() <= reflect.Int64:
		_, err = strconv.ParseInt(text, 10, kind.Bits())
	}
	if err != nil {
		return fmt.Errorf("<%s>%s</%s> is no %s: %w", start.Name.Local, text, start.Name.Local, schemaName(kind), err)
	}
	return nil
}
