package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// markers reads the +marker comments of the packages whose types are visited, one package at a time.
type markers struct {
	packages map[string]*sources
}

type sources struct {
	types  map[string]map[string]string
	fields map[string]map[string]string
	consts map[string]string
	values map[string][]string
}

func newMarkers() *markers {
	return &markers{packages: map[string]*sources{}}
}

func (m *markers) load(path string) *sources {
	if known, found := m.packages[path]; found {
		return known
	}
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		fail("go list %s: %v", path, err)
	}
	notTest := func(info fs.FileInfo) bool { return !strings.HasSuffix(info.Name(), "_test.go") }
	parsed, err := parser.ParseDir(token.NewFileSet(), strings.TrimSpace(string(dir)), notTest, parser.ParseComments)
	if err != nil {
		fail("%s: %v", path, err)
	}
	s := &sources{types: map[string]map[string]string{}, fields: map[string]map[string]string{}, consts: map[string]string{}, values: map[string][]string{}}
	for _, pkg := range parsed {
		for _, file := range pkg.Files {
			for _, decl := range file.Decls {
				if general, isGeneral := decl.(*ast.GenDecl); isGeneral {
					s.add(general)
				}
			}
		}
	}
	m.packages[path] = s
	return s
}

func (s *sources) add(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = decl.Doc
			}
			s.types[spec.Name.Name] = parse(doc)
			if structure, isStruct := spec.Type.(*ast.StructType); isStruct {
				for _, field := range structure.Fields.List {
					for _, name := range fieldNames(field) {
						s.fields[spec.Name.Name+"."+name] = parse(field.Doc)
					}
				}
			}
		case *ast.ValueSpec:
			s.constant(spec)
		}
	}
}

func fieldNames(field *ast.Field) []string {
	names := []string{}
	for _, name := range field.Names {
		names = append(names, name.Name)
	}
	if len(names) == 0 {
		switch t := field.Type.(type) {
		case *ast.Ident:
			names = append(names, t.Name)
		case *ast.SelectorExpr:
			names = append(names, t.Sel.Name)
		}
	}
	return names
}

func (s *sources) constant(spec *ast.ValueSpec) {
	for i, value := range spec.Values {
		literal, isLiteral := value.(*ast.BasicLit)
		if !isLiteral || literal.Kind != token.STRING || i >= len(spec.Names) {
			continue
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			fail("constant %s: %v", spec.Names[i].Name, err)
		}
		s.consts[spec.Names[i].Name] = text
		if typ, isIdent := spec.Type.(*ast.Ident); isIdent && !excluded(spec) {
			s.values[typ.Name] = append(s.values[typ.Name], text)
		}
	}
}

func excluded(spec *ast.ValueSpec) bool {
	_, found := parse(spec.Doc)["k8s:enumExclude"]
	return found
}

// parse finds the lines "+name" and "+name=value"; a repeated name joins its values with commas.
func parse(doc *ast.CommentGroup) map[string]string {
	marks := map[string]string{}
	if doc == nil {
		return marks
	}
	for _, comment := range doc.List {
		for _, line := range strings.Split(strings.TrimPrefix(comment.Text, "//"), "\n") {
			mark, found := strings.CutPrefix(strings.TrimSpace(line), "+")
			if !found {
				continue
			}
			name, value, _ := strings.Cut(mark, "=")
			name = strings.TrimSpace(name)
			if previous, repeated := marks[name]; repeated && previous != "" && name == "listMapKey" {
				value = previous + "," + value
			}
			marks[name] = value
		}
	}
	return marks
}

func (m *markers) typeMarks(t reflect.Type) map[string]string {
	return m.load(t.PkgPath()).types[t.Name()]
}

func (m *markers) fieldMarks(owner reflect.Type, field string) map[string]string {
	return m.load(owner.PkgPath()).fields[owner.Name()+"."+field]
}

// enum is the sorted values of a named string marked +enum.
func (m *markers) enum(t reflect.Type) []string {
	s := m.load(t.PkgPath())
	if _, marked := s.types[t.Name()]["enum"]; !marked {
		return nil
	}
	values := append([]string{}, s.values[t.Name()]...)
	sort.Strings(values)
	return values
}

// resolve turns the value of a +default into JSON: it may refer to a constant.
func (m *markers) resolve(pkg, value string) string {
	if inner, found := strings.CutPrefix(value, "ref("); found {
		name := strings.TrimSuffix(inner, ")")
		if dot := strings.LastIndex(name, "."); dot >= 0 {
			pkg, name = name[:dot], name[dot+1:]
		}
		constant, known := m.load(pkg).consts[name]
		if !known {
			fail("no constant %s in %s", name, pkg)
		}
		return strconv.Quote(constant)
	}
	return value
}
