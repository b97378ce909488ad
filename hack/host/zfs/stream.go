package zfs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// magic begins a stream of the simulated host. It is not the host's own
// format: a stream can only be received by a simulated host.
const magic = "simulated-zfs-stream/1\n"

// streamHeader is the line of JSON after the magic.
type streamHeader struct {
	Name string `json:"name"` // of the snapshot
	GUID uint64 `json:"guid"`
	From uint64 `json:"from,omitempty"` // GUID of the incremental source
}

// send is zfs_do_send without replication. An incremental stream carries the
// whole contents too: only the snapshots it fits are those of the host.
func (r *run) send(args []string) int {
	set, opts, rest, ok := r.options(args, ":i:I:RbDpvnPLet:cw")
	if !ok {
		return 2
	}
	from := ""
	for _, o := range opts {
		if o.flag == 'i' {
			if from != "" {
				return r.usage("")
			}
			from = o.value
		}
	}
	for _, flag := range []byte("IRbDpvnPtw") {
		if set[flag] {
			return r.refuse("zfs send -%c is not simulated", flag)
		}
	}
	switch {
	case len(rest) < 1:
		return r.usage("missing snapshot argument")
	case len(rest) > 1:
		return r.usage("too many arguments")
	case !strings.Contains(rest[0], "@"):
		return r.refuse("zfs send of a file system is not simulated")
	}
	r.mu.Lock()
	snap, base, code := r.sendSource(rest[0], from)
	if code != 0 {
		r.mu.Unlock()
		return code
	}
	h := streamHeader{Name: snap.Name, GUID: snap.GUID}
	if base != nil {
		h.From = base.GUID
	}
	r.inUse[snap.ID]++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.inUse[snap.ID]--
		r.mu.Unlock()
	}()
	line, err := json.Marshal(h)
	if err == nil {
		_, err = fmt.Fprintf(r.inv.Stdout, "%s%s\n", magic, line)
	}
	if err == nil {
		err = r.backend.Send(r.ctx, snap.ID, r.inv.Stdout)
	}
	if err != nil {
		return r.fail("warning: cannot send '"+snap.Name+"'", "I/O error")
	}
	return 0
}

// sendSource finds the snapshot to send and the one it is incremental to.
func (r *run) sendSource(name, from string) (snap, base *node, code int) {
	fsName, short, _ := strings.Cut(name, "@")
	fs, ok := r.open(fsName, typeFilesystem)
	if !ok {
		return nil, nil, 1
	}
	if snap = r.byName[fs.Name+"@"+short]; snap == nil {
		return nil, nil, r.fail("cannot send '"+fs.Name+"'", "snapshot "+fs.Name+"@"+short+" does not exist")
	}
	if from == "" {
		return snap, nil, 0
	}
	if origin := r.byID[fs.Origin]; origin != nil && origin.Name == from {
		return snap, origin, 0
	}
	if i := strings.IndexByte(from, '@'); i >= 0 {
		if i > 0 && from[:i] != fs.Name {
			return nil, nil, r.usage("incremental source must be in same filesystem")
		}
		from = from[i+1:]
		if strings.ContainsAny(from, "@/") {
			return nil, nil, r.usage("invalid incremental source")
		}
	}
	base = r.byName[fs.Name+"@"+from]
	switch {
	case base == nil:
		return nil, nil, r.fail("warning: cannot send '"+snap.Name+"'", "incremental source (@"+from+") does not exist")
	case base.TXG >= snap.TXG:
		return nil, nil, r.fail("warning: cannot send '"+snap.Name+"'", "not an earlier snapshot from the same fs")
	}
	return snap, base, 0
}

// receive is zfs_do_receive for one snapshot.
func (r *run) receive(args []string) int {
	set, opts, rest, ok := r.options(args, ":o:denuvFsA")
	if !ok {
		return 2
	}
	props, ok := r.assignments(opts)
	switch {
	case !ok:
		return 1
	case len(rest) < 1:
		return r.usage("missing snapshot argument")
	case len(rest) > 1:
		return r.usage("too many arguments")
	case len(props) > 0 && props["origin"] == "" || len(props) > 1:
		return r.usage("invalid option")
	}
	for _, flag := range []byte("densAo") {
		if set[flag] {
			return r.refuse("zfs receive -%c is not simulated", flag)
		}
	}
	in := r.stdin()
	if in == nil {
		r.inv.Errf("Error: Backup stream can not be read from a terminal.\nYou must redirect standard input.\n")
		return 1
	}
	h, body, err := readHeader(in)
	if err != nil {
		return r.fail("cannot receive", err.Error())
	}
	return r.receiveStream(rest[0], h, body, set['F'], set['u'])
}

// readHeader reads what comes before the contents. Its errors are texts of the
// host.
func readHeader(in io.Reader) (streamHeader, io.Reader, error) {
	var h streamHeader
	r := bufio.NewReaderSize(in, 64<<10)
	head, err := r.Peek(len(magic))
	if len(head) == 0 && errors.Is(err, io.EOF) {
		return h, nil, errors.New("failed to read from stream")
	}
	if string(head) != magic {
		return h, nil, errors.New("invalid stream (bad magic number)")
	}
	if _, err := r.Discard(len(magic)); err != nil {
		return h, nil, errors.New("failed to read from stream")
	}
	line, err := r.ReadSlice('\n')
	if err != nil || json.Unmarshal(line, &h) != nil || checkName(h.Name, typeSnapshot, true) != "" {
		return h, nil, errors.New("invalid backup stream")
	}
	return h, r, nil
}

// receiveStream receives into a file system that no name leads to, and gives
// it its name, or its contents to the one that is there, when it is complete.
func (r *run) receiveStream(target string, h streamHeader, body io.Reader, force, nomount bool) int {
	r.mu.Lock()
	fsName, snapName, code := r.receiveTarget(target, h, force)
	if code != 0 {
		r.mu.Unlock()
		return code
	}
	n := r.newNode(fsName, false)
	err := r.backend.Create(r.ctx, n.ID, nil)
	r.mu.Unlock()
	if err == nil {
		err = r.backend.Receive(r.ctx, n.ID, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.inv.Errf("simulated host: %v\n", err)
		_ = r.backend.Destroy(r.ctx, n.ID)
		return r.fail("cannot receive new filesystem stream", "invalid backup stream")
	}
	if _, _, code := r.receiveTarget(target, h, force); code != 0 {
		_ = r.backend.Destroy(r.ctx, n.ID)
		return code
	}
	return r.receiveDone(n, snapName, h, nomount)
}

// receiveTarget decides what a stream becomes, as zfs_receive_one does.
func (r *run) receiveTarget(target string, h streamHeader, force bool) (fsName, snapName string, code int) {
	fsName, short, named := strings.Cut(target, "@")
	if !named {
		_, short, _ = strings.Cut(h.Name, "@")
	}
	snapName = fsName + "@" + short
	if why := checkName(snapName, typeSnapshot, true); why != "" {
		return "", "", r.fail("cannot receive", "invalid name")
	}
	fs := r.byName[fsName]
	action := "cannot receive new filesystem stream"
	if h.From != 0 {
		action = "cannot receive incremental stream"
	}
	switch {
	case h.From == 0 && fs == nil && parent(fsName) != "" && r.byName[parent(fsName)] == nil,
		h.From != 0 && fs == nil:
		return "", "", r.fail(action, "destination '"+fsName+"' does not exist")
	case h.From == 0 && fs != nil && !force:
		return "", "", r.fail(action, "destination '"+fsName+"' exists\nmust specify -F to overwrite it")
	case h.From == 0 && fs != nil && len(r.snapshots(fs)) > 0:
		return "", "", r.fail(action, "destination has snapshots (eg. "+r.snapshots(fs)[0].Name+")\nmust destroy them to overwrite it")
	case h.From != 0:
		return fsName, snapName, r.checkIncremental(action, fs, snapName, h, force)
	}
	return fsName, snapName, 0
}

func (r *run) checkIncremental(action string, fs *node, snapName string, h streamHeader, force bool) int {
	all := r.snapshots(fs)
	if len(all) == 0 || all[len(all)-1].GUID != h.From {
		for _, s := range all {
			if s.GUID == h.From && force {
				return r.refuse("zfs receive -F does not destroy newer snapshots; destroy them first")
			}
		}
		if len(all) > 0 && slicesHasGUID(all, h.From) {
			return r.fail(action, "destination "+fs.Name+" has been modified\nsince most recent snapshot")
		}
		return r.fail(action, "most recent snapshot of "+fs.Name+" does not\nmatch incremental source")
	}
	if r.byName[snapName] != nil {
		return r.fail(action, "destination already exists")
	}
	return 0
}

func slicesHasGUID(all []*node, guid uint64) bool {
	for _, s := range all {
		if s.GUID == guid {
			return true
		}
	}
	return false
}

// receiveDone makes what was received visible and snapshots it.
func (r *run) receiveDone(n *node, snapName string, h streamHeader, nomount bool) int {
	action := "cannot receive new filesystem stream"
	fs := r.byName[n.Name]
	fresh := fs == nil
	if fresh {
		fs = n
		if err := r.backend.Regroup(r.ctx, n.ID, nil, r.groups(n.Name)); err != nil {
			return r.backendFailed(action, err)
		}
		if !r.adopt(action, n) {
			return 1
		}
	} else {
		err := r.backend.Rollback(r.ctx, fs.ID, n.ID)
		err = errors.Join(err, r.backend.Destroy(r.ctx, n.ID))
		if err != nil {
			return r.backendFailed(action, err)
		}
	}
	if code := r.snapshotAll([]string{snapName}, nil); code != 0 {
		return code
	}
	r.byName[snapName].GUID = h.GUID
	if fresh && !nomount && r.setting(fs, "canmount") == "on" {
		if err := r.mountNode(r.ctx, fs, false); err != nil {
			return r.mountFailed(err)
		}
	}
	return 0
}
