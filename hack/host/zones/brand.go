package zones

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"encoding/xml"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Brand is what the model needs of a brand's config.xml and platform.xml.
type Brand struct {
	Name     string
	Init     string // initname
	UserCmd  string // user_cmd
	LoginCmd string // forcedlogin_cmd

	// Install and the other hooks; an empty one means built-in behaviour.
	Hooks map[string]string

	RestartInit       bool // restartinit
	RestartInit0      bool // restartinit0: restart only after exit status 0 (OmniOS)
	RestartInitReboot bool // restartinitreboot: reboot the zone instead (OmniOS)

	Privileges     []BrandPrivilege
	ExclusiveIP    bool // platform.xml's allow-exclusive-ip
	ExclusiveOnly  bool // the brand's init refuses a shared IP stack
	BootsLikeLinux bool // lx: lxinit sets the network up, then runs /sbin/init
	Plumbs         bool // what the brand starts first sets the network up

	// Mounts are those of platform.xml: from the global zone, before those of
	// the configuration, and inside the zone, after them.
	GlobalMounts, Mounts []Mount
}

// BrandPrivilege is one <privilege> element.
type BrandPrivilege struct {
	Set    string // default, required or prohibited
	Name   string
	IPType string // "": any
}

// Brands finds a brand by its name. files may be nil. A brand that does not
// exist or whose files are invalid is an error.
type Brands func(name string, files program.Files) (*Brand, error)

// brandRoot is where brands are installed.
const brandRoot = "/usr/lib/brand/"

var errNoBrand = errors.New("brand does not exist")

// InstalledBrands returns the Brands of a distribution: those in
// /usr/lib/brand of the host, and those that the distribution ships.
func InstalledBrands(d Distro) Brands {
	return func(name string, files program.Files) (*Brand, error) {
		if name == "" || strings.Contains(name, "/") {
			return nil, errNoBrand
		}
		if files != nil {
			b, err := ReadBrand(name, files)
			if err == nil || !errors.Is(err, errNoBrand) {
				return b, err
			}
		}
		return builtinBrand(d, name)
	}
}

// ReadBrand reads brand name from /usr/lib/brand/NAME.
func ReadBrand(name string, files program.Files) (*Brand, error) {
	config, err := readAll(files, brandRoot+name+"/config.xml")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBrand, err)
	}
	b, err := parseBrand(config)
	if err != nil {
		return nil, fmt.Errorf("brand %s: config.xml: %w", name, err)
	}
	if b.Name != name {
		return nil, fmt.Errorf("brand %s: config.xml: is of brand %q", name, b.Name)
	}
	platform, err := readAll(files, brandRoot+name+"/platform.xml")
	if err != nil {
		return nil, fmt.Errorf("brand %s: %w", name, err)
	}
	if err := b.parsePlatform(platform); err != nil {
		return nil, fmt.Errorf("brand %s: platform.xml: %w", name, err)
	}
	return b, nil
}

func readAll(files program.Files, path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// brandElements is the order that brand.dtd.1 prescribes.
var brandElements = []string{"modname", "initname", "restartinit", "restartinit0", "restartinitreboot",
	"login_cmd", "forcedlogin_cmd", "user_cmd", "install", "installopts", "boot", "sysboot", "halt",
	"shutdown", "verify_cfg", "verify_adm", "postattach", "postclone", "postinstall", "predetach",
	"attach", "detach", "clone", "presnap", "postsnap", "validatesnap", "preuninstall", "uninstall",
	"prestatechange", "poststatechange", "query", "security-flags", "privilege"}

var brandRequired = []string{"initname", "login_cmd", "forcedlogin_cmd", "user_cmd", "install", "privilege"}

type brandXML struct {
	XMLName  xml.Name `xml:"brand"`
	Name     string   `xml:"name,attr"`
	Elements []struct {
		XMLName xml.Name
		Set     string `xml:"set,attr"`
		Name    string `xml:"name,attr"`
		IPType  string `xml:"ip-type,attr"`
		Text    string `xml:",chardata"`
	} `xml:",any"`
}

func parseBrand(data []byte) (*Brand, error) {
	var doc brandXML
	if err := xml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	b := &Brand{Name: doc.Name, RestartInit: true, Hooks: map[string]string{}}
	last := 0
	seen := map[string]bool{}
	for _, e := range doc.Elements {
		name := e.XMLName.Local
		at := slices.Index(brandElements, name)
		switch {
		case at < 0:
			return nil, fmt.Errorf("unknown element %s", name)
		case at < last:
			return nil, fmt.Errorf("element %s must come before %s", name, brandElements[last])
		case seen[name] && name != "privilege":
			return nil, fmt.Errorf("element %s comes twice", name)
		}
		last, seen[name] = at, true
		text := strings.TrimSpace(e.Text)
		switch name {
		case "privilege":
			b.Privileges = append(b.Privileges, BrandPrivilege{Set: e.Set, Name: e.Name, IPType: e.IPType})
		case "initname":
			b.Init = text
		case "user_cmd":
			b.UserCmd = text
		case "forcedlogin_cmd":
			b.LoginCmd = text
		case "restartinit":
			b.RestartInit = text != "false"
		case "restartinit0":
			b.RestartInit0 = text == "true"
		case "restartinitreboot":
			b.RestartInitReboot = text == "true"
		default:
			b.Hooks[name] = text
		}
	}
	for _, name := range brandRequired {
		if !seen[name] {
			return nil, fmt.Errorf("element %s is missing", name)
		}
	}
	b.BootsLikeLinux = b.Hooks["modname"] == "lx_brand"
	b.ExclusiveOnly, b.Plumbs = b.BootsLikeLinux, b.BootsLikeLinux
	return b, nil
}

// unsimulated returns a hook that a boot or halt would run and that does more
// than nothing. The hooks of the brands built in are known and left out.
func (b *Brand) unsimulated() string {
	for _, name := range []string{"boot", "halt", "prestatechange", "poststatechange", "verify_adm"} {
		if succeeds, _ := trivialHook(b.Hooks[name]); b.Hooks[name] != "" && !succeeds {
			return name
		}
	}
	return ""
}

func (b *Brand) parsePlatform(data []byte) error {
	type mount struct {
		Special   string `xml:"special,attr"`
		Directory string `xml:"directory,attr"`
		Type      string `xml:"type,attr"`
		Options   string `xml:"opt,attr"`
	}
	var doc struct {
		XMLName   xml.Name `xml:"platform"`
		Name      string   `xml:"name,attr"`
		Exclusive string   `xml:"allow-exclusive-ip,attr"`
		Global    []mount  `xml:"global_mount"`
		Mounts    []mount  `xml:"mount"`
	}
	if err := xml.Unmarshal(data, &doc); err != nil {
		return err
	}
	if doc.Name != b.Name {
		return fmt.Errorf("is of brand %q", doc.Name)
	}
	b.ExclusiveIP = doc.Exclusive == "true"
	list := func(all []mount) []Mount {
		var out []Mount
		for _, m := range all {
			r := Mount{Type: m.Type, Special: m.Special, Dir: m.Directory}
			if m.Options != "" {
				r.Options = strings.Split(m.Options, ",")
			}
			out = append(out, r)
		}
		return out
	}
	b.GlobalMounts, b.Mounts = list(doc.Global), list(doc.Mounts)
	return nil
}

// lxInit is the program that the kernel starts in an lx zone. It sets the
// network up and then runs lxUserInit.
const (
	lxInit     = "/native/usr/lib/brand/lx/lxinit"
	lxUserInit = "/sbin/init"
)

// builtinBrand returns a brand that the distribution ships.
func builtinBrand(d Distro, name string) (*Brand, error) {
	native := map[Distro][]string{
		OpenIndiana: {"ipkg", "nlipkg"},
		OmniOS:      {"ipkg", "lipkg", "sparse", "pkgsrc", "illumos"},
		SmartOS:     {"joyent", "joyent-minimal"},
	}
	switch {
	case slices.Contains(native[d], name):
		return &Brand{
			Name: name, Init: "/sbin/init", RestartInit: true, ExclusiveIP: true, Plumbs: true,
			UserCmd: "/usr/bin/getent passwd %u", LoginCmd: "/usr/bin/login -z %Z -f %u",
			Hooks:      map[string]string{"install": brandRoot + name + "/pkgcreatezone -z %z -R %R"},
			Privileges: builtinPrivileges([]string{"net_observability"}),
		}, nil
	case name == "lx" && !d.gate():
		return &Brand{
			Name: name, Init: lxInit, RestartInit: true, ExclusiveIP: true, ExclusiveOnly: true, BootsLikeLinux: true, Plumbs: true,
			UserCmd: "/usr/bin/getent passwd %u", LoginCmd: "/bin/login -h zone:%Z -f %u",
			Hooks:      map[string]string{"modname": "lx_brand", "install": brandRoot + "lx/lx_install -z %z -R %R"},
			Privileges: builtinPrivileges([]string{"dtrace_proc", "dtrace_user", "proc_prioup"}),
		}, nil
	}
	return nil, errNoBrand
}
