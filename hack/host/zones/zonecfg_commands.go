package zones

import "strings"

// run executes one command.
func (s *session) run(c command) {
	switch c.name {
	case "help":
		s.help(c)
	case "create":
		s.create(c)
	case "export":
		s.export(c)
	case "exit":
		s.exitCommand(c)
	case "add":
		s.add(c)
	case "delete":
		s.delete(c)
	case "remove":
		s.remove(c)
	case "clear":
		s.clear(c)
	case "select":
		s.sel(c)
	case "set":
		s.set(c)
	case "info":
		s.info(c)
	case "verify", "commit":
		if o, ok := s.flags(c, ""); !ok || c.name == "commit" && s.extra(c, o) {
			return
		}
		if s.readOnly(c.name) {
			return
		}
		s.verify(c.name == "commit")
	case "cancel":
		s.cancel(c)
	case "end":
		s.end(c)
	case "revert":
		s.revert(c)
	}
}

// flags reads the option letters of a command; only -F is kept. ok is false
// after an unknown option.
func (s *session) flags(c command, spec string) (o *options, ok bool) {
	o = &options{args: c.args, spec: spec + "?", inv: s.inv}
	ok = true
	for {
		switch o.next() {
		case 0:
			return o, ok
		case '?':
			s.longerUsage(c.name)
			ok = false
		}
	}
}

func (s *session) extra(c command, o *options) bool {
	if len(o.rest()) > 0 {
		s.shortUsage(c.name)
		return true
	}
	return false
}

func hasFlag(args []string, letter string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "-") && strings.Contains(a[1:], letter) {
			return true
		}
	}
	return false
}

// readOnly refuses to change zones that belong to the system.
func (s *session) readOnly(string) bool {
	if strings.HasPrefix(s.zone, "SUNW") {
		s.fail("%s: zones beginning with SUNW are read-only.", s.zone)
		return true
	}
	return false
}

// initialize loads the zone's saved configuration unless one is open.
func (s *session) initialize(expected bool) bool {
	if s.cfg != nil {
		return true
	}
	cfg, ok := s.m.savedConfig(s.zone)
	if !ok {
		s.perror(s.zone, zNoZone, expected || s.gotHandle)
		if !s.gotHandle && s.interactive {
			s.inv.Outf("Use 'create' to begin configuring a new zone.\n")
		}
		return false
	}
	if _, err := s.m.brand(cfg.Root["brand"], s.inv.Files); err != nil {
		s.zerr("Zone %s uses non-existent brand \"%s\".  Unable to continue", s.zone, cfg.Root["brand"])
		s.exit(exitErr)
		return false
	}
	s.cfg, s.gotHandle, s.fresh = cfg, true, false
	return true
}

// stateAtLeast reports whether the saved zone has reached a state.
func (s *session) stateAtLeast(min state) bool {
	st, ok := s.m.stateOf(s.zone)
	return ok && st >= min
}

func (s *session) create(c command) {
	spec := "a:bFt:"
	if s.m.distro == SmartOS {
		spec += "X"
	}
	o := &options{args: c.args, spec: spec + "?", inv: s.inv}
	template, attach, force, bad := "SUNWdefault", "", false, false
	for letter := o.next(); letter != 0; letter = o.next() {
		switch letter {
		case 'a':
			attach = o.arg
		case 'b':
			template = "SUNWblank"
		case 'F':
			force = true
		case 't':
			template = o.arg
			if s.m.distro == OmniOS && (template == "" || template[0] < 'A' || template[0] > 'Z') {
				template = "OMNI" + template
			}
		case 'X':
			s.recreate()
			return
		default:
			if o.bad == '?' {
				s.longerUsage("create")
			} else {
				s.shortUsage("create")
			}
			bad = true
		}
	}
	if bad || s.extra(c, o) || s.readOnly("create") || !s.mayCreate(force) {
		return
	}
	if attach != "" {
		s.fail("simulated host: create -a is not simulated")
		return
	}
	cfg, ok := s.m.template(template, s.zone)
	if !ok {
		s.perror(template, zNoZone, true)
		return
	}
	if s.uuid != "" {
		cfg.Root["uuid"] = s.uuid
	}
	s.cfg, s.gotHandle, s.needCommit, s.fresh = cfg, true, true, true
}

// recreate is create -X: it reads the saved file again.
func (s *session) recreate() {
	cfg, ok := s.m.savedConfig(s.zone)
	if !ok {
		s.perror("zonecfg", zNoZone, true)
		s.exit(exitErr)
		return
	}
	s.cfg, s.gotHandle, s.needCommit = cfg, true, true
}

// mayCreate refuses to overwrite a zone. An installed zone is refused without
// setting the error flag: the commands that follow then change that zone.
func (s *session) mayCreate(force bool) bool {
	if _, ok := s.m.savedConfig(s.zone); !ok {
		return true
	}
	if s.stateAtLeast(stateInstalled) {
		s.zerr("Zone %s already installed; create not allowed.", s.zone)
		return false
	}
	if force {
		s.inv.Outf("Zone %s already exists; overwriting.\n", s.zone)
		return true
	}
	switch s.ask("Zone " + s.zone + " already exists; create anyway") {
	case answerYes:
		return true
	case answerNone:
		s.zerr("Zone exists, input not from terminal and -F not specified:\ncreate command ignored, exiting.")
		s.exit(exitErr)
	default:
	}
	return false
}

func (s *session) exitCommand(c command) {
	o, ok := s.flags(c, "F")
	if hasFlag(c.args, "F") {
		s.forceExit = true
	}
	if !ok || s.extra(c, o) {
		return
	}
	if s.scope == "" || s.forceExit {
		s.timeToExit = true
		return
	}
	switch s.ask("Resource incomplete; really quit") {
	case answerNone:
		s.zerr("Resource incomplete, input not from terminal and -F not specified:\n" +
			"exit command ignored, but exiting anyway.")
		s.exit(exitErr)
	case answerYes:
		s.timeToExit = true
	default:
	}
}

func (s *session) delete(c command) {
	o, ok := s.flags(c, "F")
	if !ok || s.extra(c, o) || s.readOnly("delete") {
		return
	}
	force := hasFlag(c.args, "F")
	if !force {
		if !s.initialize(true) {
			return
		}
		switch s.ask("Are you sure you want to delete zone " + s.zone) {
		case answerNone:
			s.zerr("Input not from terminal and -F not specified:\ndelete command ignored, exiting.")
			s.exit(exitErr)
			return
		case answerNo:
			return
		default:
		}
	}
	s.initialize(true)
	if s.stopped {
		return
	}
	if err := s.m.destroy(s.zone, force); err != zOK {
		if err == zBadZoneState && !force {
			s.zerr("Zone %s not in configured state; delete not allowed.  Use -F to force delete.", s.zone)
		} else {
			s.perror(s.zone, err, true)
		}
	}
	s.needCommit = false
	if force && s.cfg == nil && s.interactive {
		s.inv.Outf("Use 'create' to begin configuring a new zone.\n")
	}
	if s.gotHandle {
		cfg, ok := s.m.savedConfig(s.zone)
		s.cfg, s.gotHandle = cfg, ok
	}
}

func (s *session) cancel(c command) {
	o, ok := s.flags(c, "")
	if !ok || s.extra(c, o) {
		return
	}
	if s.scope == "" {
		s.wrongScope("cancel")
	}
	s.scope, s.work, s.old, s.memory = "", nil, nil, 0
}

func (s *session) wrongScope(name string) {
	where := "global"
	if s.scope == "" {
		where = "resource"
	}
	s.fail("The %s command only makes sense in the %s scope.", name, where)
}

func (s *session) revert(c command) {
	o, ok := s.flags(c, "F")
	if !ok || s.extra(c, o) || s.readOnly("revert") {
		return
	}
	if s.scope != "" {
		s.fail("You can only use revert in the global scope.\n" +
			"Use 'cancel' to cancel changes to a resource specification.")
		return
	}
	if s.cfg == nil {
		s.fail("No changes to revert.")
		return
	}
	if !hasFlag(c.args, "F") {
		switch s.ask("Are you sure you want to revert") {
		case answerNone:
			s.zerr("Input not from terminal and -F not specified:\nrevert command ignored, exiting.")
			s.exit(exitErr)
			return
		case answerNo:
			return
		default:
		}
	}
	s.deleteName = ""
	cfg, ok := s.m.savedConfig(s.revertZone)
	s.cfg = cfg
	if !ok {
		s.sawError, s.gotHandle = true, false
		s.zerr("%s: no such saved zone to revert to.", s.revertZone)
	}
	s.zone = s.revertZone
}
