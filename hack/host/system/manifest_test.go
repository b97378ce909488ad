package system

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
)

const doctype = `<!DOCTYPE service_bundle SYSTEM "` + bundleDTD + `">`

// svccfg runs svccfg on a manifest and returns what it says.
func svccfg(t *testing.T, m *Model, action, text string) (exit int, said string) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = m.Commands()["svccfg"](t.Context(), &program.Invocation{
		Argv: []string{"svccfg", action, "m.xml"}, Dir: "/root", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Files: files{"/root/m.xml": text},
	})
	return exit, errs.String()
}

// TestManifestOfTheAgent has the project's own manifest pass.
func TestManifestOfTheAgent(t *testing.T) {
	b, err := os.ReadFile("../../../smf/reddwarf.xml")
	if err != nil {
		t.Fatal(err)
	}
	m := newModel("omnios", new([]string))
	for _, action := range []string{"validate", "import"} {
		if exit, said := svccfg(t, m, action, string(b)); exit != 0 || said != "" {
			t.Errorf("svccfg %s: exit status %d, %s", action, exit, said)
		}
	}
	if got := do(t, m, "svcs -H -o state,fmri system/reddwarf"); got != "disabled       svc:/system/reddwarf:default\n" {
		t.Errorf("the service is %q", got)
	}
}

func TestManifestRefused(t *testing.T) {
	in := func(service string) string {
		return doctype + `<service_bundle type="manifest" name="x"><service name="x" type="service" version="1">` + service + `</service></service_bundle>`
	}
	for _, c := range []struct{ what, manifest, want string }{
		{"no document type", `<service_bundle type="manifest" name="x"/>`, "svccfg: document has no DTD"},
		{"another one", `<!DOCTYPE html SYSTEM "x.dtd"><service_bundle/>`, "svccfg: document DTD unknown; not service bundle?"},
		{"another root", doctype + `<service/>`, "svccfg: document is not a service bundle"},
		{"tags crossed", doctype + `<service_bundle><service></service_bundle></service>`, "svccfg: couldn't parse document"},
		{"no end", doctype + `<service_bundle>`, "svccfg: couldn't parse document"},
		{"two roots", doctype + `<service_bundle/><service_bundle/>`, "svccfg: couldn't parse document"},
		{"wrong order", in(`<instance name="a" enabled="true"/><single_instance/>`), "content does not follow the DTD"},
		{"twice", in(`<single_instance/><single_instance/>`), "content does not follow the DTD"},
		{"unknown element", in(`<dependencies/>`), "No declaration for element dependencies"},
		{"missing attribute", in(`<instance name="a"/>`), "does not carry attribute enabled"},
		{"unknown attribute", in(`<instance name="a" enabled="true" on="1"/>`), "No declaration for attribute on"},
		{"value out of its set", in(`<instance name="a" enabled="yes"/>`), `Value "yes" for attribute enabled`},
		{"text where none goes", in(`hello`), "content does not follow the DTD"},
		{"no environment", in(`<method_context><method_environment/></method_context>`), "content does not follow the DTD"},
		{"common name without text", in(`<template><common_name/></template>`), "content does not follow the DTD"},
		{"a name with its scheme", strings.Replace(in(""), `service name="x"`, `service name="svc:/x"`, 1), "not the name of a service"},
	} {
		m := newModel("omnios", new([]string))
		exit, said := svccfg(t, m, "import", c.manifest)
		if exit != 1 || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit status %d, %s", c.what, exit, said)
		}
		if strings.Contains(do(t, m, "svcs -a -H -o fmri"), "svc:/x:") {
			t.Errorf("%s: imported all the same", c.what)
		}
	}
	m := newModel("omnios", new([]string))
	good := in(`<method_context><method_profile name="p"/></method_context>` +
		`<property_group name="a" type="application"><property name="l" type="astring"><astring_list><value_node value="1"/></astring_list></property></property_group>` +
		`<instance name="a" enabled="true"/><stability value="Unstable"/><template><common_name><loctext xml:lang="C">x</loctext></common_name></template>`)
	if exit, said := svccfg(t, m, "validate", good); exit != 0 {
		t.Errorf("a good one is refused: %s", said)
	}
}
