package main

import (
	"reflect"
	"slices"
	"strings"
)

// element is one field of a schema type.
type element struct {
	name           string
	kind           reflect.Type
	many, required bool
}

// elementsOf lists what a struct type may contain, in order.
func elementsOf(kind reflect.Type) []element {
	if known, ok := elements.Load(kind); ok {
		return known.([]element)
	}
	var all []element
	for i := range kind.NumField() {
		f := kind.Field(i)
		if f.Anonymous {
			all = append(all, elementsOf(f.Type)...)
			continue
		}
		tag := strings.Split(f.Tag.Get("xml"), ",")
		if tag[0] == "" || tag[0] == "-" || slices.Contains(tag[1:], "attr") {
			continue
		}
		e := element{name: tag[0], kind: f.Type, required: !slices.Contains(tag[1:], "omitempty")}
		if f.Type.Kind() == reflect.Pointer {
			e.kind, e.required = f.Type.Elem(), false
		}
		if f.Type.Kind() == reflect.Slice && !f.Type.ConvertibleTo(binaryType) {
			e.kind, e.many, e.required = f.Type.Elem(), true, false
		}
		all = append(all, e)
	}
	elements.Store(kind, all)
	return all
}

// schemaName is what the schema calls a Go type.
func schemaName(kind reflect.Type) string {
	if kind.Kind() == reflect.Interface {
		return strings.TrimPrefix(kind.Name(), "Base")
	}
	return kind.Name()
}
