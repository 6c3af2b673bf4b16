package diff

import (
	"slices"
	"strings"
	"unicode"
)

// Words is a part of a text that changed.
type Words struct {
	// Op is "equal", "delete" or "insert".
	Op   string `json:"op"`
	Text string `json:"text"`
}

const (
	opEqual  = "equal"
	opDelete = "delete"
	opInsert = "insert"
)

// maxEdits bounds the work of comparing texts; texts with more words inserted and deleted are taken as wholly other ones.
const maxEdits = 600

// words compares two texts by word: the fewest words deleted and inserted (Myers, An O(ND) difference algorithm, 1986).
func words(a, b string) []Words {
	as, bs := split(a), split(b)
	head := 0
	for head < min(len(as), len(bs)) && as[head] == bs[head] {
		head++
	}
	tail := 0
	for tail < min(len(as), len(bs))-head && as[len(as)-1-tail] == bs[len(bs)-1-tail] {
		tail++
	}
	var list wordList
	list.add(opEqual, as[:head]...)
	list.middle(as[head:len(as)-tail], bs[head:len(bs)-tail])
	list.add(opEqual, as[len(as)-tail:]...)
	return list.joined()
}

// split cuts a text into words, runs of blanks, and single other characters.
func split(s string) []string {
	kind := func(r rune) int {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '_' || r == '\'':
			return 1
		case unicode.IsSpace(r):
			return 2
		}
		return 0
	}
	var parts []string
	start, last := 0, -1
	for i, r := range s {
		k := kind(r)
		if i > start && (k != last || k == 0) {
			parts = append(parts, s[start:i])
			start = i
		}
		last = k
	}
	if start < len(s) {
		parts = append(parts, s[start:])
	}
	return parts
}

// wordList is a list of parts that grows at its end.
type wordList []Words

func (l *wordList) add(op string, texts ...string) {
	if len(texts) == 0 {
		return
	}
	if n := len(*l); n > 0 && (*l)[n-1].Op == op {
		(*l)[n-1].Text += strings.Join(texts, "")
		return
	}
	*l = append(*l, Words{op, strings.Join(texts, "")})
}

// middle compares what is between the beginnings and ends that are alike.
func (l *wordList) middle(a, b []string) {
	trace := frontiers(a, b)
	if trace == nil {
		l.add(opDelete, a...)
		l.add(opInsert, b...)
		return
	}
	type move struct{ op, text string }
	var back []move
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		k := x - y
		prev := k - 1
		if d > 0 && trace[d-1].down(k) {
			prev = k + 1
		}
		px, py := 0, 0
		if d > 0 {
			px = trace[d-1].at(prev)
			py = px - prev
		}
		for x > px && y > py {
			x, y = x-1, y-1
			back = append(back, move{opEqual, a[x]})
		}
		if d > 0 && prev == k+1 {
			y--
			back = append(back, move{opInsert, b[y]})
		} else if d > 0 {
			x--
			back = append(back, move{opDelete, a[x]})
		}
	}
	for _, m := range slices.Backward(back) {
		l.add(m.op, m.text)
	}
}

// frontier is how far one can come in a with d edits, by diagonal x-y from -d to d.
type frontier []int

func (f frontier) at(k int) int {
	if i := k + len(f)/2; i >= 0 && i < len(f) {
		return f[i]
	}
	return -1
}

// down is whether diagonal k is reached best by an insertion.
func (f frontier) down(k int) bool {
	return f.at(k+1) > f.at(k-1)
}

// frontiers returns one frontier for each number of edits up to the last that is needed; nil if those are too many.
func frontiers(a, b []string) []frontier {
	var trace []frontier
	for d := 0; d <= min(maxEdits, len(a)+len(b)); d++ {
		f := make(frontier, 2*d+1)
		for i := range f {
			f[i] = -1
		}
		for k := -d; k <= d; k += 2 {
			x := 0
			if d > 0 {
				last := trace[d-1]
				if x = last.at(k-1) + 1; last.down(k) {
					x = last.at(k + 1)
				}
			}
			y := x - k
			if x < 0 || y < 0 || x > len(a) || y > len(b) {
				continue
			}
			for x < len(a) && y < len(b) && a[x] == b[y] {
				x, y = x+1, y+1
			}
			f[k+d] = x
			if x == len(a) && y == len(b) {
				return append(trace, f)
			}
		}
		trace = append(trace, f)
	}
	return nil
}

// joined makes one change of changes that only blanks part, deletions first.
func (l wordList) joined() []Words {
	var out wordList
	for i := 0; i < len(l); {
		if l[i].Op == opEqual {
			out.add(opEqual, l[i].Text)
			i++
			continue
		}
		var deleted, inserted string
		for ; i < len(l) && (l[i].Op != opEqual || i+1 < len(l) && strings.TrimSpace(l[i].Text) == ""); i++ {
			if l[i].Op != opInsert {
				deleted += l[i].Text
			}
			if l[i].Op != opDelete {
				inserted += l[i].Text
			}
		}
		if deleted != "" {
			out.add(opDelete, deleted)
		}
		if inserted != "" {
			out.add(opInsert, inserted)
		}
	}
	return out
}
