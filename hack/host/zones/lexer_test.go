package zones

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestLexer shows tokens as KIND:text.
func TestLexer(t *testing.T) {
	kinds := map[tokenKind]string{tokenCommand: "C", tokenKeyword: "K", tokenText: "T", tokenPunct: "P", tokenTerminator: ";"}
	for _, tt := range []struct {
		distro Distro
		in     string
		want   string
	}{
		{OmniOS, "set zonepath=/a#b\n", "C:set K:zonepath P:= T:/a#b ;:\n"},
		{OmniOS, "# set x\n#y", ";:\n"},
		{OmniOS, "set names name", "C:set T:names K:name"},
		{OmniOS, "created;", "C:create T:d ;:;"},
		{OmniOS, "exit export ?", "C:exit T:export T:?"},
		{OmniOS, "?\t help", "C:help T:help"},
		{OmniOS, "xadd y", "P:x C:add T:y"},
		{OmniOS, "add net;add value (name=ips,value=\"a,b=c\")", "C:add K:net ;:; C:add K:value P:( K:name P:= T:ips P:, K:value P:= T:a,b=c P:)"},
		{OpenIndiana, "add value (name=ips,value=\"a\")", "C:add K:value P:( K:name P:= T:ips P:, K:value P:= P:\" T:a P:\" P:)"},
		{OpenIndiana, "set mac-addr=1", "C:set T:mac-addr P:= T:1"},
		{SmartOS, "set uuid=1", "C:set K:uuid P:= T:1"},
		{OmniOS, "set uuid=1", "C:set T:uuid P:= T:1"},
		{OmniOS, "set options=[ro,name,\"x=y\"] ro,rw", "C:set K:options P:= P:[ T:ro P:, T:name P:, T:x=y P:] T:ro,rw"},
		{OmniOS, "add value [(limit=[1]),(net=2)]x", "C:add K:value P:[ P:( K:limit P:= T:[1] P:) P:, P:( T:net P:= T:2 P:) P:] T:x"},
		{OmniOS, "set a=\"b\nc\nd", "C:set T:a P:= T:b\n T:c ;:\n P:d"},
		{OmniOS, "set a=\"b", "C:set T:a P:= P:\" T:b"},
		{OmniOS, "set a=b\"c\"", "C:set T:a P:= T:b T:c"},
		{OmniOS, "set a=\"\"", "C:set T:a P:= T:"},
		{OmniOS, "set a='b c'", "C:set T:a P:= T:'b T:c'"},
		{OmniOS, "set a=é\\\"", "C:set T:a P:= T:é\\ P:\""},
	} {
		lex := newLexer(tt.distro, tt.in)
		var got []string
		for tok := lex.next(); tok.kind != tokenEnd; tok = lex.next() {
			got = append(got, fmt.Sprintf("%s:%s", kinds[tok.kind], tok.text))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %q:\ngot  %q\nwant %q", tt.distro, tt.in, s, tt.want)
		}
	}
}

// TestQuotedNewlineKeepsLine: a newline in quotes is not counted.
func TestQuotedNewlineKeepsLine(t *testing.T) {
	lex := newLexer(OmniOS, "set a=\"b\nc\n\n")
	for lex.next().kind != tokenEnd {
	}
	if lex.line != 3 {
		t.Errorf("line = %d, want 3", lex.line)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		distro Distro
		in     string
		kind   parsed
		at     string // the token at fault
	}{
		{OmniOS, "", parsedNothing, ""},
		{OmniOS, ";", parsedNothing, ""},
		{OmniOS, "create -F -t x\n", parsedCommand, ""},
		{OmniOS, "create -F -t x y\n", parsedSyntax, "y"},
		{OmniOS, "create -t default\n", parsedSyntax, "default"},
		{OmniOS, "delete -F x\n", parsedSyntax, "x"},
		{OmniOS, "add\n", parsedUsage, "\n"},
		{OmniOS, "add = x\n", parsedUsage, "="},
		{OmniOS, "add foo\n", parsedCommand, ""},
		{OmniOS, "add options\n", parsedSyntax, "\n"},
		{OmniOS, "add net x\n", parsedSyntax, "x"},
		{OmniOS, "info\n", parsedCommand, ""},
		{OmniOS, "info foo\n", parsedUsage, "foo"}, // found without looking ahead
		{OmniOS, "info dir\n", parsedSyntax, "dir"},
		{OmniOS, "info attr name=a type=b value=c\n", parsedCommand, ""},
		{OmniOS, "info attr name=a type=b value=c name=d\n", parsedSyntax, "name"},
		{OmniOS, "remove -F attr\n", parsedCommand, ""},
		{OmniOS, "remove -F attr name=x\n", parsedCommand, ""},
		{OpenIndiana, "remove -F attr name=x\n", parsedSyntax, "name"},
		{OmniOS, "remove foo\n", parsedUsage, "\n"},
		{OmniOS, "select\n", parsedUsage, "\n"},
		{OmniOS, "select attr\n", parsedUsage, "\n"},
		{OmniOS, "select capped-memory\n", parsedCommand, ""},
		{OmniOS, "set\n", parsedUsage, "\n"},
		{OmniOS, "set foo=bar\n", parsedSyntax, "="},
		{OmniOS, "set net=bar\n", parsedUsage, "net"},
		{OmniOS, "set zonepath /x\n", parsedSyntax, "/x"},
		{OmniOS, "set zonepath = /x\n", parsedCommand, ""},
		{OmniOS, "set zonepath=/x # no\n", parsedSyntax, "#"},
		{OmniOS, "set -F zonepath=/x\n", parsedCommand, ""},
		{OmniOS, "set options=[]\n", parsedCommand, ""},
		{OmniOS, "set options=[a,]\n", parsedSyntax, "]"},
		{OmniOS, "add options [[a]]\n", parsedSyntax, "["},
		{OmniOS, "add value ()\n", parsedSyntax, ")"},
		{OmniOS, "add value (foo=1)\n", parsedSyntax, "foo"},
		{OmniOS, "set zonepath=/x", parsedSyntax, ""}, // the end is no terminator
	} {
		var at token
		p := &parser{lex: newLexer(tt.distro, tt.in)}
		_, kind := p.parse(func(_ parsed, _ command, tok token) { at = tok })
		if kind != tt.kind || at.raw != tt.at {
			t.Errorf("%s: %q: %d at %q, want %d at %q", tt.distro, tt.in, kind, at.raw, tt.kind, tt.at)
		}
	}
}

func TestParseValues(t *testing.T) {
	p := &parser{lex: newLexer(OmniOS, "add value [(priv=privileged,limit=net,action=deny),name,\"x y\"]\n")}
	c, kind := p.parse(func(parsed, command, token) { t.Error("syntax error") })
	if kind != parsedCommand || c.property != "value" || c.value.kind != listValue || len(c.value.list) != 3 {
		t.Fatalf("parsed %+v, %d", c, kind)
	}
	want := []pair{{"priv", "privileged"}, {"limit", "net"}, {"action", "deny"}}
	if l := c.value.list; !slices.Equal(l[0].pieces, want) || l[1].simple != "name" || l[2].simple != "x y" {
		t.Errorf("list = %+v", c.value.list)
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]uint64{"0": 0, "1": 1, "1k": 1024, "1.5G": 3 << 29, "2 M": 2 << 20, "3T": 3 << 40, "": 0, ".5K": 512, "9007199254740993": 9007199254740993} {
		if got, ok := parseBytes(in); !ok || got != want {
			t.Errorf("parseBytes(%q) = %d, %v; want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"-1", "1X", "1KB", "G1", "1.2.3", "1e3K"} {
		if got, ok := parseBytes(in); ok {
			t.Errorf("parseBytes(%q) = %d, want a refusal", in, got)
		}
	}
	for in, want := range map[uint64]string{0: "0", 1023: "1023", 1024: "1K", 1536: "1.5K", 50 << 20: "50M", 3 << 29: "1.5G", 1 << 40: "1T", 5000 << 40: "5000T", 10<<20 + 1: "10M"} {
		if got := formatBytes(in); got != want {
			t.Errorf("formatBytes(%d) = %s, want %s", in, got, want)
		}
	}
}
