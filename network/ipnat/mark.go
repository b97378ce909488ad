package ipnat

import "strings"

// Rules of ours carry a mark that ipnat prints back, so that those of other
// people are never touched and ours are found again after a crash.
//
// Redirects have a tag, which tells their Service apart. The tag of a map rule
// would be more than a mark: fr_checknatout() in ip_nat.c passes over a tagged
// map when the packet has met any filter rule without that tag, so one "pass
// out" of an operator would end the translation. Map rules have "frag" instead,
// which ipnat reads, keeps and prints, and which nothing in the kernel asks for.
const (
	tagPrefix = "rdwsvc"
	tagLength = 15 // IPFTAG_LEN without its NUL
	tagDigits = "0123456789abcdefghijklmnopqrstuv"
)

// Tag returns the mark on the redirects of a Service. It is always the same
// one, so "ipnat -l | grep TAG" shows them.
func Tag(service string) string {
	b := append(make([]byte, 0, tagLength), tagPrefix...)
	h := mix(hashString(service))
	for len(b) < tagLength {
		b = append(b, tagDigits[h%uint64(len(tagDigits))])
		h /= uint64(len(tagDigits))
	}
	return string(b)
}

func isTag(s string) bool {
	return len(s) == tagLength && strings.HasPrefix(s, tagPrefix) && strings.Trim(s[len(tagPrefix):], tagDigits) == ""
}

// ours says whether a rule that was parsed is one of ours.
func (r Rule) ours() bool {
	if r.Kind == Redirect {
		return r.Tag != ""
	}
	return r.Mark && (r.Low == 0 || r.Low == lowPort && r.High == highPort)
}

// tagged says whether a line that was not understood is a redirect of ours: one
// of another version of this program.
func tagged(line string) bool {
	i := strings.LastIndexByte(line, ' ')
	return i > 0 && isTag(line[i+1:]) && strings.HasPrefix(line, "rdr ") && strings.HasSuffix(line[:i], " tag")
}

// Listing is what ipnat -lR prints of the kernel's rules.
type Listing struct {
	Ours    Rules
	Stale   []string // ours by their tag, but not of a form that we write now
	Foreign []string // other people's
}

// Whose a line of the kernel's list is.
type lineKind int

const (
	lineForeign lineKind = iota
	lineStale
	lineOurs
)

// classifyLine also returns the rule, if it is one of ours.
func classifyLine(line string) (Rule, lineKind) {
	r, err := ParseRule(line)
	switch {
	case err == nil && r.ours():
		return r, lineOurs
	case tagged(line):
		return Rule{}, lineStale
	}
	return Rule{}, lineForeign
}

// add sorts one line in.
func (l *Listing) add(line string) {
	switch r, kind := classifyLine(line); kind {
	case lineOurs:
		l.Ours = append(l.Ours, r)
	case lineStale:
		l.Stale = append(l.Stale, line)
	case lineForeign:
		l.Foreign = append(l.Foreign, line)
	}
}

// rules counts all of them.
func (l *Listing) rules() int { return len(l.Ours) + len(l.Stale) + len(l.Foreign) }

// hashString is FNV-1a with 64 bits.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads a hash over all its bits; it is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
