package nodes

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// pattern is a regular expression of Python's re module. It runs on regexp2,
// whose syntax is .NET's: the two agree but for names of groups, which are
// replaced by numbers here, and some spellings.
type pattern struct {
	expr   *regexp2.Regexp
	groups int
	names  map[string]int
}

// patternFlags are re.IGNORECASE, re.MULTILINE and re.DOTALL.
type patternFlags struct{ ignoreCase, multiline, dotAll bool }

var (
	errBadPattern = errors.New("not a valid regular expression")
	errPossessive = errors.New("possessive quantifiers (such as *+) are not supported; use an atomic group, (?>…)")
)

// matchTime bounds a search; some patterns take exponential time.
const matchTime = 10 * time.Second

func compilePattern(text string, f patternFlags) (*pattern, error) {
	t := &translation{in: text, names: map[string]int{}}
	if err := t.run(); err != nil {
		return nil, fmt.Errorf("read pattern %q: %w", text, err)
	}
	options := regexp2.RegexOptions(regexp2.None)
	for flag, on := range map[regexp2.RegexOptions]bool{
		regexp2.IgnoreCase: f.ignoreCase, regexp2.Multiline: f.multiline, regexp2.Singleline: f.dotAll,
	} {
		if on {
			options |= flag
		}
	}
	expr, err := regexp2.Compile(t.out.String(), options)
	if err != nil {
		return nil, fmt.Errorf("read pattern %q: %w: %w", text, errBadPattern, err)
	}
	expr.MatchTimeout = matchTime
	return &pattern{expr: expr, groups: t.groups, names: t.names}, nil
}

// translation turns Python's syntax into regexp2's.
type translation struct {
	in     string
	at     int
	out    strings.Builder
	groups int
	names  map[string]int
}

func (t *translation) run() error {
	for t.at < len(t.in) {
		rest := t.in[t.at:]
		var err error
		switch {
		case strings.HasPrefix(rest, `\Z`):
			t.emit(2, `\z`)
		case strings.HasPrefix(rest, `\z`):
			err = errBadPattern
		case rest[0] == '\\':
			t.emit(min(2, len(rest)), rest[:min(2, len(rest))])
		case rest[0] == '[':
			err = t.class()
		case rest[0] == '(':
			err = t.open(rest)
		case strings.HasPrefix(rest, "{,") && strings.Contains(rest, "}"):
			t.emit(2, "{0,")
		case isPossessive(rest):
			err = errPossessive
		default:
			t.emit(1, rest[:1])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emit goes n bytes on and writes something in their place.
func (t *translation) emit(n int, s string) {
	t.out.WriteString(s)
	t.at += n
}

// class copies a set of characters. In Python a bracket within is a character.
// Complements such as \W become alternatives outside of the set, because
// regexp2 gets them wrong beside other members.
func (t *translation) class() error {
	t.at++
	rest, negated := strings.CutPrefix(t.in[t.at:], "^")
	t.at = len(t.in) - len(rest)
	set, complements, ended := t.set()
	switch {
	case !ended:
		return errBadPattern
	case len(complements) == 0 && negated:
		t.emit(0, "[^"+set+"]")
	case len(complements) == 0:
		t.emit(0, "["+set+"]")
	default:
		if set != "" {
			complements = append(complements, "["+set+"]")
		}
		either := "(?:" + strings.Join(complements, "|") + ")"
		if negated {
			either = "(?:(?!" + either + `)[\s\S])`
		}
		t.emit(0, either)
	}
	return nil
}

// set reads up to the closing bracket; \W, \D and \S come apart from the rest.
// A bracket right at the beginning is a character.
func (t *translation) set() (set string, complements []string, ended bool) {
	var b strings.Builder
	for first := true; t.at < len(t.in); first = false {
		switch c := t.in[t.at]; {
		case c == ']' && !first:
			t.at++
			return b.String(), complements, true
		case c == '[' || c == ']':
			b.WriteString(`\` + string(c))
		case c == '\\' && t.at+1 < len(t.in):
			t.at++
			escape := t.in[t.at-1 : t.at+1]
			if strings.Contains("WDS", escape[1:]) {
				complements = append(complements, escape)
			} else {
				b.WriteString(escape)
			}
		default:
			b.WriteByte(c)
		}
		t.at++
	}
	return b.String(), complements, false
}

// open copies what begins with a parenthesis and counts groups.
func (t *translation) open(rest string) error {
	switch {
	case strings.HasPrefix(rest, "(?P<"):
		name, _, _ := strings.Cut(rest[len("(?P<"):], ">")
		if _, taken := t.names[name]; taken || name == "" {
			return errBadPattern
		}
		t.groups++
		t.names[name] = t.groups
		t.emit(len("(?P<")+len(name)+1, "(")
	case strings.HasPrefix(rest, "(?P="):
		name, _, _ := strings.Cut(rest[len("(?P="):], ")")
		n, known := t.names[name]
		if !known {
			return errBadPattern
		}
		t.emit(len("(?P=")+len(name)+1, fmt.Sprintf(`(?:\%d)`, n))
	case strings.HasPrefix(rest, "(?#"):
		comment, _, _ := strings.Cut(rest, ")")
		t.emit(len(comment)+1, "")
	default:
		if !strings.HasPrefix(rest, "(?") {
			t.groups++
		}
		t.emit(1, "(")
	}
	return nil
}

// isPossessive tells a quantifier followed by a plus.
func isPossessive(s string) bool {
	if len(s) > 1 && strings.ContainsRune("*+?", rune(s[0])) {
		return s[1] == '+'
	}
	return strings.HasPrefix(s, "}+")
}

// match is one match, in characters; groups that took no part are empty.
type match struct {
	begin, end int
	groups     []string
}

func (m match) group(i int) string {
	if i < len(m.groups) {
		return m.groups[i]
	}
	return ""
}

// matches returns up to limit matches, all for -1.
func (p *pattern) matches(s string, limit int) ([]match, error) {
	var out []match
	m, err := p.expr.FindStringMatch(s)
	for ; m != nil && err == nil && len(out) != limit; m, err = p.expr.FindNextMatch(m) {
		found := match{begin: m.Index, end: m.Index + m.Length}
		for _, g := range m.Groups() {
			found.groups = append(found.groups, g.String())
		}
		out = append(out, found)
	}
	if err != nil {
		return nil, fmt.Errorf("search with %q: %w", p.expr, err)
	}
	return out, nil
}

// piece is a part of a replacement: text, or where that is empty a group.
type piece struct {
	text  string
	group int
}

// letterEscapes are the escapes of Python's replacement templates.
var letterEscapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\\': "\\",
}

// template reads a replacement as re.sub does.
func (p *pattern) template(s string) ([]piece, error) {
	var out []piece
	text := func(s string) {
		if s != "" {
			out = append(out, piece{text: s})
		}
	}
	for {
		before, rest, found := strings.Cut(s, `\`)
		text(before)
		if !found {
			return out, nil
		}
		if rest == "" {
			return nil, errors.New(`a \ at the end`)
		}
		escape, known := letterEscapes[rest[0]]
		digits := leadingDigits(rest)
		switch {
		case known:
			text(escape)
			s = rest[1:]
		case rest[0] == 'g':
			group, after, err := p.reference(rest[1:])
			if err != nil {
				return nil, err
			}
			out, s = append(out, piece{group: group}), after
		case digits != "" && isOctal(digits):
			octal := digits[:min(3, len(digits))]
			octal = octal[:len(octal)-len(strings.TrimLeft(octal, "01234567"))]
			n, _ := strconv.ParseUint(octal, 8, 16)
			text(string(rune(n & 0xff)))
			s = rest[len(octal):]
		case digits != "":
			n, err := strconv.Atoi(digits[:min(2, len(digits))])
			if err != nil || n > p.groups {
				return nil, fmt.Errorf("there is no group %s", digits)
			}
			out, s = append(out, piece{group: n}), rest[min(2, len(digits)):]
		case rest[0] < 0x80 && (rest[0]|0x20) >= 'a' && (rest[0]|0x20) <= 'z':
			return nil, fmt.Errorf(`\%c is no escape`, rest[0])
		default:
			text(`\` + rest[:1])
			s = rest[1:]
		}
	}
}

func leadingDigits(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}

// isOctal tells a character from a group: a leading zero, or three octal
// digits.
func isOctal(digits string) bool {
	return digits[0] == '0' || len(digits) >= 3 && digits[0] <= '3' && strings.Trim(digits[:3], "01234567") == ""
}

// reference reads <name> or <number>.
func (p *pattern) reference(s string) (group int, rest string, err error) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(s, "<"), ">")
	if !ok || !strings.HasPrefix(s, "<") {
		return 0, "", errors.New(`\g wants a <name>`)
	}
	if n, known := p.names[name]; known {
		return n, rest, nil
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n > p.groups {
		return 0, "", fmt.Errorf("there is no group %q", name)
	}
	return n, rest, nil
}
