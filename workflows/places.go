package workflows

import (
	"bytes"
	"sort"
	"strconv"
	"strings"
)

// Span is a stretch of a text: lines and columns count from 1, columns count characters, and the end is the place
// behind the last one.
type Span struct {
	Line, Column, EndLine, EndColumn int
}

// Places finds where the values of a JSON text stand, for many messages about one text. It is not for use by several
// goroutines at a time.
type Places struct {
	data  []byte
	root  *spot
	lines []int // offsets of the lines' beginnings
	runes []int // characters before each block of the text
}

// spot is a value of the text. Members are looked for when somebody asks for one of them.
type spot struct {
	key, keyEnd int // of a member; 0, 0 for items
	start, end  int
	opened      bool
	members     map[string]*spot
	items       []*spot
}

const runeBlock = 1 << 12

// NewPlaces reads a text that [ParseValue] reads; the error is that function's.
func NewPlaces(data []byte) (*Places, error) {
	if _, err := compact(data); err != nil {
		return nil, err
	}
	p := &Places{data: data}
	first := 0
	if bytes.HasPrefix(data, byteOrderMark) {
		first = len(byteOrderMark)
	}
	p.lines = []int{first}
	count := 0
	for i, c := range data {
		if i%runeBlock == 0 {
			p.runes = append(p.runes, count)
		}
		if c&0xc0 != 0x80 {
			count++
		}
		if c == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	start := passSpace(data, first)
	p.root = &spot{start: start, end: endOfValue(data, start)}
	return p, nil
}

// Value is where the value at a path stands: keys of objects, and the positions of lists' items in decimal digits.
func (p *Places) Value(path ...string) (Span, bool) {
	s := p.find(path)
	if s == nil {
		return Span{}, false
	}
	return p.span(s.start, s.end), true
}

// Key is where the key of the member at a path stands.
func (p *Places) Key(path ...string) (Span, bool) {
	s := p.find(path)
	if s == nil || s.keyEnd == 0 {
		return Span{}, false
	}
	return p.span(s.key, s.keyEnd), true
}

func (p *Places) find(path []string) *spot {
	s := p.root
	for _, key := range path {
		s.open(p.data)
		next := s.members[key]
		if i, err := strconv.Atoi(key); err == nil && strconv.Itoa(i) == key && i >= 0 && i < len(s.items) {
			next = s.items[i]
		}
		if next == nil {
			return nil
		}
		s = next
	}
	return s
}

// open finds the members or items of a spot.
func (s *spot) open(data []byte) {
	if s.opened {
		return
	}
	s.opened = true
	switch data[s.start] {
	case '{':
		s.members = map[string]*spot{}
	case '[':
	default:
		return
	}
	for i := passSpace(data, s.start+1); i < s.end-1; {
		child := &spot{start: i}
		if s.members != nil {
			child.key, child.keyEnd = i, endOfValue(data, i)
			child.start = passSpace(data, passSpace(data, child.keyEnd)+1)
			s.members[keyText(data[child.key:child.keyEnd])] = child
		} else {
			s.items = append(s.items, child)
		}
		child.end = endOfValue(data, child.start)
		if i = passSpace(data, child.end); data[i] == ',' {
			i = passSpace(data, i+1)
		}
	}
}

// keyText is the text of a key as it stands in a file.
func keyText(raw []byte) string {
	v, err := ParseValue(raw)
	if err != nil {
		return ""
	}
	text, _ := v.Str()
	return text
}

func passSpace(data []byte, i int) int {
	for i < len(data) && strings.IndexByte(" \t\r\n", data[i]) >= 0 {
		i++
	}
	return i
}

// endOfValue returns the place behind the value that begins at i.
func endOfValue(data []byte, i int) int {
	depth := 0
	for ; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
			continue
		case ']', '}':
			depth--
		default:
			if depth == 0 {
				return endOfWord(data, i)
			}
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// endOfWord returns the place behind a number, true, false, null or NaN.
func endOfWord(data []byte, i int) int {
	for i < len(data) && strings.IndexByte(" \t\r\n,]}", data[i]) < 0 {
		i++
	}
	return i
}

func (p *Places) span(start, end int) Span {
	var s Span
	s.Line, s.Column = p.position(start)
	s.EndLine, s.EndColumn = p.position(end)
	return s
}

func (p *Places) position(offset int) (line, column int) {
	line = sort.SearchInts(p.lines, offset+1)
	line = max(line, 1)
	return line, p.count(offset) - p.count(p.lines[line-1]) + 1
}

// count is the number of characters before an offset.
func (p *Places) count(offset int) int {
	block := min(offset/runeBlock, len(p.runes)-1)
	n := p.runes[block]
	for _, c := range p.data[block*runeBlock : offset] {
		if c&0xc0 != 0x80 {
			n++
		}
	}
	return n
}
