package system

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// bundleDTD is the one document type that svccfg takes (svccfg_xml.c,
// lxml_is_known_dtd).
const bundleDTD = "/usr/share/lib/xml/dtd/service_bundle.dtd.1"

// bundle is as much of a manifest as is kept here.
type bundle struct {
	XMLName  xml.Name `xml:"service_bundle"`
	Type     string   `xml:"type,attr"`
	Name     string   `xml:"name,attr"`
	Services []struct {
		Name    string `xml:"name,attr"`
		Type    string `xml:"type,attr"`
		Version string `xml:"version,attr"`
		Create  *struct {
			Enabled bool `xml:"enabled,attr"`
		} `xml:"create_default_instance"`
		Instances []struct {
			Name    string `xml:"name,attr"`
			Enabled bool   `xml:"enabled,attr"`
		} `xml:"instance"`
	} `xml:"service"`
}

// readBundle reads a manifest and checks what svccfg would trip over, in its
// order. The texts of the XML library are not simulated.
func readBundle(inv *program.Invocation, name string) (*bundle, error) {
	file := name
	if !path.IsAbs(file) {
		file = path.Join(inv.Dir, file)
	}
	f, err := inv.Files.Open(file)
	if err != nil {
		return nil, errors.New("unable to open file: No such file or directory")
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("unable to open file: %w", err)
	}
	doc, err := parseDocument(data)
	switch {
	case err != nil:
		inv.Errf("%s: parser error : %v\n", name, err)
		return nil, errors.New("couldn't parse document")
	case doc.doctype == "":
		return nil, errors.New("document has no DTD")
	case !strings.HasSuffix(strings.TrimRight(doc.doctype, ` "'`), bundleDTD):
		return nil, errors.New("document DTD unknown; not service bundle?")
	case doc.root.name != "service_bundle":
		return nil, errors.New("document is not a service bundle")
	}
	if faults := validate(doc.root, manifestElements()); len(faults) > 0 {
		for _, fault := range faults {
			inv.Errf("%s:%s\n", name, fault)
		}
		return nil, errors.New("Document is not valid.") //nolint:staticcheck // svccfg's words
	}
	var b bundle
	if err := xml.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("couldn't parse document: %w", err)
	}
	if b.Type != "manifest" {
		return nil, fmt.Errorf("service bundles of type %q are not simulated", b.Type)
	}
	for _, s := range b.Services {
		if s.Name == "" || strings.HasPrefix(s.Name, "svc:") {
			return nil, fmt.Errorf("service %q: not the name of a service", s.Name)
		}
	}
	return &b, nil
}

// element is an element of a document with what it holds.
type element struct {
	name     string
	line     int
	attrs    []xml.Attr
	children []*element
	text     bool // other than white space
}

type document struct {
	doctype string
	root    *element
}

func parseDocument(data []byte) (*document, error) {
	dec := xml.NewDecoder(bytes.NewReader(data))
	var doc document
	var open []*element
	for {
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.Directive:
			if rest, ok := strings.CutPrefix(string(t), "DOCTYPE"); ok {
				doc.doctype = strings.TrimSpace(rest)
			}
		case xml.StartElement:
			line, _ := dec.InputPos()
			e := &element{name: qualified(t.Name), line: line, attrs: slices.Clone(t.Attr)}
			switch {
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, e)
			case doc.root == nil:
				doc.root = e
			default:
				return nil, errors.New("extra content at the end of the document")
			}
			open = append(open, e)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].name != qualified(t.Name) {
				return nil, fmt.Errorf("opening and ending tag mismatch: %s", qualified(t.Name))
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 && len(bytes.TrimSpace(t)) > 0 {
				open[len(open)-1].text = true
			}
		}
	}
	if doc.root == nil || len(open) > 0 {
		return nil, errors.New("premature end of data")
	}
	return &doc, nil
}

func qualified(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// validate lists what the document type does not allow below e.
func validate(e *element, types map[string]elementType) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%d: element %s: validity error : ", e.line, e.name)+fmt.Sprintf(format, args...))
	}
	typ, ok := types[e.name]
	if !ok {
		fault("No declaration for element %s", e.name)
		return faults
	}
	var got []string
	for _, c := range e.children {
		got = append(got, c.name)
	}
	if !follows(strings.Fields(typ.content), got) || e.text && typ.content != "#PCDATA" {
		fault("Element %s content does not follow the DTD, expecting (%s), got (%s)", e.name, typ.content, strings.Join(got, " "))
	}
	faults = append(faults, validateAttrs(e, typ)...)
	for _, c := range e.children {
		faults = append(faults, validate(c, types)...)
	}
	return faults
}

// follows tells whether names are a sequence of particles: "a" once, "a?" at
// most once, "a*" any number, "a+" one or more; "a|b" is either. No model of this document
// type lets one name match two neighbours, so the first that fits is right.
func follows(particles, names []string) bool {
	for _, p := range particles {
		if p == "#PCDATA" {
			continue
		}
		choice := strings.TrimRight(p, "?*+")
		quantity := strings.TrimPrefix(p, choice)
		count := 0
		for len(names) > 0 && slices.Contains(strings.Split(choice, "|"), names[0]) && (count == 0 || quantity == "*" || quantity == "+") {
			names = names[1:]
			count++
		}
		if count == 0 && (quantity == "" || quantity == "+") {
			return false
		}
	}
	return len(names) == 0
}

func validateAttrs(e *element, typ elementType) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%d: element %s: validity error : ", e.line, e.name)+fmt.Sprintf(format, args...))
	}
	declared := map[string][]string{}
	for _, a := range strings.Fields(typ.attrs) {
		name, values, limited := strings.Cut(a, "=")
		name, required := strings.CutSuffix(name, "!")
		declared[name] = nil
		if limited {
			declared[name] = strings.Split(values, "|")
		}
		if required && !slices.ContainsFunc(e.attrs, func(x xml.Attr) bool { return qualified(x.Name) == name }) {
			fault("Element %s does not carry attribute %s", e.name, name)
		}
	}
	for _, a := range e.attrs {
		values, ok := declared[qualified(a.Name)]
		switch {
		case !ok:
			fault("No declaration for attribute %s of element %s", qualified(a.Name), e.name)
		case values != nil && !slices.Contains(values, a.Value):
			fault("Value %q for attribute %s of %s is not among the enumerated set", a.Value, qualified(a.Name), e.name)
		}
	}
	return faults
}

// elementType is the declaration of an element: what it may hold, in the words
// of follows, and its attributes, "!" after those that are required.
type elementType struct{ content, attrs string }

// manifestElements is the document type of manifests, service_bundle.dtd.1.
// Bundles in bundles and XInclude are not simulated.
func manifestElements() map[string]elementType {
	const (
		props     = "propval|property*"
		grouping  = "grouping!=require_all|require_any|exclude_all|optional_all restart_on!=error|restart|refresh|none"
		types     = "count|integer|opaque|host|hostname|net_address_v4|net_address_v6|time|astring|ustring|boolean|fmri|uri"
		truth     = "true|false"
		localized = "loctext+"
	)
	all := map[string]elementType{
		"service_bundle": {"service*", "type! name!"},
		"service": {
			"create_default_instance? single_instance? restarter? dependency* dependent* method_context? exec_method* property_group* instance* stability? template?",
			"name! version! type!=service|restarter|milestone",
		},
		"instance": {
			"restarter? dependency* dependent* method_context? exec_method* property_group* template?",
			"name! enabled!=" + truth,
		},
		"create_default_instance": {"", "enabled!=" + truth},
		"single_instance":         {"", ""},
		"restarter":               {"service_fmri", ""},
		"service_fmri":            {"", "value!"},
		"dependency":              {"service_fmri* stability? " + props, "name! type! delete=" + truth + " " + grouping},
		"dependent":               {"service_fmri stability? " + props, "name! delete=" + truth + " override=" + truth + " " + grouping},
		"method_context":          {"method_profile|method_credential? method_environment?", "working_directory project resource_pool security_flags"},
		"method_profile":          {"", "name!"},
		"method_credential":       {"", "user! group supp_groups privileges limit_privileges"},
		"method_environment":      {"envvar+", ""},
		"envvar":                  {"", "name! value!"},
		"exec_method":             {"method_context? stability? " + props, "type!=method|monitor name! exec! timeout_seconds! delete=" + truth},
		"property_group":          {"stability? " + props, "name! type! delete=" + truth},
		"propval":                 {"", "name! type!=" + types + " value! override=" + truth},
		"stability":               {"", "value!=Standard|Stable|Evolving|Unstable|External|Obsolete"},
		"value_node":              {"", "value!"},
		"template":                {"common_name description? documentation? pg_pattern*", ""},
		"common_name":             {localized, ""},
		"description":             {localized, ""},
		"units":                   {localized, ""},
		"loctext":                 {"#PCDATA", "xml:lang!"},
		"documentation":           {"doc_link|manpage*", ""},
		"doc_link":                {"", "name! uri!"},
		"manpage":                 {"", "title! section! manpath"},
		"pg_pattern":              {"common_name? description? prop_pattern*", "name type required=" + truth + " target=this|instance|delegate|all"},
		"prop_pattern": {
			"common_name? description? units? visibility? cardinality? internal_separators? values? constraints? choices?",
			"name! type=" + types + " required=" + truth,
		},
		"visibility":          {"", "value!=hidden|readonly|readwrite"},
		"cardinality":         {"", "min max"},
		"internal_separators": {"#PCDATA", ""},
		"values":              {"value+", ""},
		"value":               {"common_name? description?", "name!"},
		"range":               {"", "min! max!"},
		"constraints":         {"value* range*", ""},
		"include_values":      {"", "type!=constraints|values"},
		"choices":             {"value* range* include_values*", ""},
	}
	var lists []string
	for _, t := range strings.Split(types, "|") {
		lists = append(lists, t+"_list")
		all[t+"_list"] = elementType{"value_node+", ""}
	}
	all["property"] = elementType{strings.Join(lists, "|") + "?", "name! type!=" + types + " override=" + truth}
	return all
}
