// Command generate writes api/facts/v1_35.facts: what the Kubernetes API types are, as data.
//
// It is run by hand when the Kubernetes version changes, not by the build:
//
//	cd api/facts/generate && go run . > ../v1_35.facts
//
// Names, numbers and Go shapes of fields come by reflection from the public modules named in go.mod; list types, merge
// keys, defaults, enumerations and optionality from struct tags and the +markers in those modules' sources. Nothing but
// facts is written: no descriptions, no code.
//
// The format is one fact a line, sorted, so that a new version shows as a diff:
//
//	P <package> <OpenAPI package> <Go package name>
//	E <package>.<name> <value>|<value>...             values of an enumeration
//	T <package>.<name> [special=<name>] [atomic]      a type; its fields follow
//	K <apiVersion> <kind>                             the type above is this kind
//	F <JSON name> <protobuf number> <shape> <flag>... a field of the type above
//
// A shape is [*][[]|{}]<element>: pointer, list or map (string keys) of an element, which is a scalar (string, bool, int32,
// int64, uint32, uint64, double, bytes, any) or a type. Number 0 means the field is not in protobuf. Flags: keep (no
// omitempty), zero (omitzero), inline (its fields appear in JSON in its place), req (required by OpenAPI), list=<type>[:keys],
// map=<type>, atomic, merge=<strategies>[:key], as=<package>.<named scalar>, def=<JSON> (always last).
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Types whose JSON or protobuf form is their own, by package path and name.
var special = map[string]string{
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                                         "quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                                       "intorstring",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                                             "time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                                        "microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                                         "duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                                         "raw",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                                          "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                         "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":        "schemaorbool",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":       "schemaorarray",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "schemaorstrings",
}

type generator struct {
	types map[reflect.Type]*strings.Builder
	names map[reflect.Type]string
	kinds map[reflect.Type][]string
	enums map[string][]string
	pkgs  map[string]string
	marks *markers
}

func main() {
	g := &generator{
		types: map[reflect.Type]*strings.Builder{}, names: map[reflect.Type]string{}, kinds: map[reflect.Type][]string{},
		enums: map[string][]string{}, pkgs: map[string]string{}, marks: newMarkers(),
	}
	scheme := runtime.NewScheme()
	for _, add := range groups {
		if err := add(scheme); err != nil {
			fail("%v", err)
		}
	}
	for gvk, t := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		own := t.PkgPath() != "k8s.io/apimachinery/pkg/apis/meta/v1" || gvk.GroupVersion() == schema.GroupVersion{Version: "v1"} ||
			gvk.Group == metav1.GroupName && g.metaOnly(gvk.Kind)
		if own {
			g.kinds[t] = append(g.kinds[t], gvk.GroupVersion().String()+" "+gvk.Kind)
		}
		g.visit(t)
	}
	// The kinds metav1 serves under meta.k8s.io.
	for _, object := range []any{metav1.Table{}, metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadataList{}} {
		g.visit(reflect.TypeOf(object))
	}
	g.print()
}

func (g *generator) metaOnly(kind string) bool {
	return strings.HasPrefix(kind, "Table") || strings.HasPrefix(kind, "PartialObjectMetadata")
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "generate: "+format+"\n", args...)
	os.Exit(1)
}

// short is the name of a package in the facts file: "core.v1", "meta.v1", "resource".
func (g *generator) short(path string) string {
	short := path
	for _, prefix := range []string{
		"k8s.io/apimachinery/pkg/apis/", "k8s.io/apimachinery/pkg/api/", "k8s.io/apimachinery/pkg/util/", "k8s.io/apimachinery/pkg/",
		"k8s.io/apiextensions-apiserver/pkg/apis/", "k8s.io/kube-aggregator/pkg/apis/", "k8s.io/api/",
	} {
		if rest, found := strings.CutPrefix(path, prefix); found {
			short = rest
			break
		}
	}
	short = strings.ReplaceAll(short, "/", ".")
	openapi := strings.ReplaceAll(strings.Replace(path, "k8s.io/", "io.k8s.", 1), "/", ".")
	goName := path[strings.LastIndex(path, "/")+1:]
	line := openapi + " " + goName
	if known, found := g.pkgs[short]; found && known != line {
		fail("package name %s is ambiguous", short)
	}
	g.pkgs[short] = line
	return short
}

func (g *generator) name(t reflect.Type) string {
	return g.short(t.PkgPath()) + "." + t.Name()
}

func isItems(t reflect.Type) bool {
	_, marshals := reflect.New(t).Interface().(interface{ Marshal() ([]byte, error) })
	return t.Kind() == reflect.Slice && marshals
}

func (g *generator) visit(t reflect.Type) {
	if _, done := g.types[t]; done {
		return
	}
	out := &strings.Builder{}
	g.types[t] = out
	g.names[t] = g.name(t)
	if isItems(t) {
		g.names[t] += " special=items"
		fmt.Fprintf(out, "F items 1 []string\n")
		return
	}
	if what, found := special[t.PkgPath()+"."+t.Name()]; found {
		g.names[t] += " special=" + what
		if !strings.HasPrefix(what, "schema") {
			return
		}
	}
	doc := g.marks.typeMarks(t)
	if doc["structType"] == "atomic" {
		g.names[t] += " atomic"
	}
	for i := 0; i < t.NumField(); i++ {
		g.field(out, t, t.Field(i))
	}
}

func (g *generator) field(out *strings.Builder, owner reflect.Type, f reflect.StructField) {
	jsonTag, hasJSON := f.Tag.Lookup("json")
	parts := strings.Split(jsonTag, ",")
	name, options := parts[0], parts[1:]
	number := protoNumber(f.Tag.Get("protobuf"))
	if !f.IsExported() || name == "-" && number == 0 {
		return
	}
	if f.Type == reflect.TypeOf(metav1.TypeMeta{}) && number == 0 {
		fmt.Fprintf(out, "F apiVersion 0 string\nF kind 0 string\n")
		return
	}
	if !hasJSON || name == "-" {
		name = protoName(f.Tag.Get("protobuf"))
	}
	inline := contains(options, "inline") || f.Anonymous && parts[0] == ""
	if inline {
		name = protoName(f.Tag.Get("protobuf"))
	}
	shape, named := g.shape(f.Type)
	line := fmt.Sprintf("F %s %d %s", name, number, shape)
	omitted := contains(options, "omitempty")
	flag := func(on bool, text string) {
		if on {
			line += " " + text
		}
	}
	flag(inline, "inline")
	flag(!inline && !omitted && !contains(options, "omitzero"), "keep")
	flag(contains(options, "omitzero"), "zero")
	marks := g.marks.fieldMarks(owner, f.Name)
	_, optional := marks["optional"]
	_, must := marks["required"]
	flag(!inline && (must || !omitted && !contains(options, "omitzero") && !optional), "req")
	if listType := marks["listType"]; listType != "" {
		if keys := marks["listMapKey"]; keys != "" {
			listType += ":" + keys
		}
		flag(true, "list="+listType)
	}
	flag(marks["mapType"] != "", "map="+marks["mapType"])
	flag(marks["structType"] == "atomic", "atomic")
	// OpenAPI has one word for both; a field may be granular though its type is atomic (PersistentVolumeSpec.claimRef).
	flag(marks["structType"] == "granular", "map=granular")
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		if key := f.Tag.Get("patchMergeKey"); key != "" {
			strategy += ":" + key
		}
		flag(true, "merge="+strategy)
	}
	if named != nil {
		flag(true, "as="+g.name(named))
		if values := g.marks.enum(named); values != nil {
			g.enums[g.name(named)] = values
		}
	}
	if value, found := marks["default"]; found {
		flag(true, "def="+g.marks.resolve(owner.PkgPath(), value))
	}
	fmt.Fprintln(out, line)
}

// shape prints a type, visiting the structs it leads to; named is the named scalar in it, if any.
func (g *generator) shape(t reflect.Type) (shape string, named reflect.Type) {
	switch {
	case t.Kind() == reflect.Pointer:
		inner, named := g.shape(t.Elem())
		if strings.HasPrefix(inner, "*") {
			fail("pointer to pointer %v", t)
		}
		return "*" + inner, named
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "bytes", nil
	case isItems(t):
		g.visit(t)
		return g.name(t), nil
	case t.Kind() == reflect.Slice:
		return g.container("[]", t)
	case t.Kind() == reflect.Map:
		if t.Key().Kind() != reflect.String {
			fail("map key %v", t)
		}
		return g.container("{}", t)
	case t.Kind() == reflect.Struct:
		g.visit(t)
		return g.name(t), nil
	case t.Kind() == reflect.Interface:
		return "any", nil
	}
	if t.PkgPath() != "" {
		named = t
	}
	scalar, found := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "bool", reflect.Int32: "int32", reflect.Int64: "int64", reflect.Int: "int64",
		reflect.Uint32: "uint32", reflect.Uint64: "uint64", reflect.Uint16: "uint32", reflect.Float64: "double",
	}[t.Kind()]
	if !found {
		fail("scalar %v", t)
	}
	return scalar, named
}

func (g *generator) container(mark string, t reflect.Type) (string, reflect.Type) {
	inner, named := g.shape(t.Elem())
	if strings.ContainsAny(inner, "*[{") {
		fail("nested container %v", t)
	}
	return mark + inner, named
}

func protoNumber(tag string) int {
	if tag == "" || tag == "-" {
		return 0
	}
	number, err := strconv.Atoi(strings.Split(tag, ",")[1])
	if err != nil {
		fail("tag %q: %v", tag, err)
	}
	return number
}

func protoName(tag string) string {
	for _, part := range strings.Split(tag, ",") {
		if name, found := strings.CutPrefix(part, "name="); found {
			return name
		}
	}
	return "-"
}

func contains(list []string, item string) bool {
	for _, entry := range list {
		if entry == item {
			return true
		}
	}
	return false
}

func (g *generator) print() {
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "# Facts about the API types of Kubernetes v1.35. Written by api/facts/generate, which explains the format.")
	for _, short := range sortedKeys(g.pkgs) {
		fmt.Fprintf(out, "P %s %s\n", short, g.pkgs[short])
	}
	for _, name := range sortedKeys(g.enums) {
		fmt.Fprintf(out, "E %s %s\n", name, strings.Join(g.enums[name], "|"))
	}
	types := make([]reflect.Type, 0, len(g.types))
	for t := range g.types {
		types = append(types, t)
	}
	sort.Slice(types, func(i, j int) bool { return g.names[types[i]] < g.names[types[j]] })
	for _, t := range types {
		fmt.Fprintf(out, "T %s\n", g.names[t])
		sort.Strings(g.kinds[t])
		for _, kind := range g.kinds[t] {
			fmt.Fprintf(out, "K %s\n", kind)
		}
		fmt.Fprint(out, g.types[t].String())
	}
	if err := out.Flush(); err != nil {
		fail("%v", err)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
