package auth

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewToken(t *testing.T) {
	a, hash := NewToken()
	b, _ := NewToken()
	if a == b || len(a) != len("comfyrun_")+43 || hash != Hash(a) || len(hash) != 64 {
		t.Errorf("tokens %q and %q, hash %q", a, b, hash)
	}
	set, err := Parse([]byte("ci submit " + hash))
	if err != nil {
		t.Fatal(err)
	}
	if who, ok := set.Find(a); !ok || who != (Identity{"ci", Submit}) {
		t.Errorf("found %v, %v", who, ok)
	}
	if who, ok := set.Find(b); ok || who != (Identity{}) {
		t.Errorf("a token of nobody is %v", who)
	}
	if _, ok := set.Find(""); ok {
		t.Error("no token is a token")
	}
}

func TestParse(t *testing.T) {
	h, g := Hash("x"), Hash("y")
	for _, tt := range []struct {
		name, text, want string
	}{
		{"good", "# all\n\na read " + h + " # first\r\n b\tread,admin\t" + strings.ToUpper(g), ""},
		{"words", "a read", "line 1: 2 words"},
		{"scope", "\na write " + h, `line 2: scope "write"`},
		{"no scope", "a none " + h, `scope "none"`},
		{"empty scope", "a read, " + h, `scope ""`},
		{"hash", "a read secretsecret", "it has 12 characters"},
		{"name twice", "a read " + h + "\na read " + g, `line 2: name "a" is there twice`},
		{"token twice", "a read " + h + "\nb admin " + h, `line 2: "b" has the token`},
		{"long", "a read " + strings.Repeat("0", 1<<17), "parse tokens"},
		{"name", "\xff read " + h, "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := Parse([]byte(tt.text))
			switch {
			case tt.want == "" && (err != nil || set.Len() != 2):
				t.Errorf("%d tokens, %v", set.Len(), err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "secretsecret"):
				t.Error("the error tells what may be a token")
			}
		})
	}
	set, _ := Parse([]byte("b\tread,admin\t" + g))
	if who, _ := set.Find("y"); who.Scope != Admin {
		t.Errorf("scope is %v", who.Scope)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A changed file counts; a wrong one, or none, leaves the tokens as they were and is reported once.
func TestFileReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, "a read "+Hash("one"))
	var reports []error
	f, err := Open(path, func(err error) { reports = append(reports, err) })
	if err != nil {
		t.Fatal(err)
	}
	f.interval, f.next = 0, time.Time{}
	expect := func(step, good, bad string, count int) {
		t.Helper()
		for range 3 {
			if _, ok := f.Find(good); !ok {
				t.Errorf("%s: %s is not known", step, good)
			}
			if _, ok := f.Find(bad); ok {
				t.Errorf("%s: %s is known", step, bad)
			}
		}
		if len(reports) != count {
			t.Errorf("%s: %d reports: %v", step, len(reports), reports)
		}
	}
	expect("first", "one", "two", 0)
	write(t, path, "a read "+Hash("two"))
	expect("changed", "two", "one", 1)
	write(t, path, "a wrong "+Hash("one"))
	expect("wrong", "two", "one", 2)
	write(t, path, "")
	expect("empty", "two", "one", 3)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("gone", "two", "one", 4)
	write(t, path, "a read "+Hash("one"))
	expect("back", "one", "two", 5)
	if reports[0] != nil || reports[1] == nil || reports[4] != nil {
		t.Errorf("reports %v", reports)
	}
	for _, text := range []string{"", "a b c"} {
		write(t, path, text)
		if _, err := Open(path, nil); err == nil {
			t.Errorf("opens %q", text)
		}
	}
}

func TestCheckListen(t *testing.T) {
	for _, tt := range []struct {
		address        string
		tokens, noAuth bool
		ok             bool
	}{
		{"127.0.0.1:8188", false, false, true},
		{"127.1.2.3:0", false, false, true},
		{"[::1]:8188", false, false, true},
		{"localhost:8188", false, false, true},
		{"[::ffff:127.0.0.1]:8188", false, false, true},
		{":8188", false, false, false},
		{"0.0.0.0:8188", false, false, false},
		{"[::]:8188", false, false, false},
		{"10.0.0.1:8188", false, false, false},
		{"localhost.example.com:8188", false, false, false},
		{"0.0.0.0:8188", true, false, true},
		{"0.0.0.0:8188", false, true, true},
		{"127.0.0.1:8188", true, true, false},
	} {
		if err := CheckListen(tt.address, tt.tokens, tt.noAuth); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	l := &Limiter{Burst: 3, Every: time.Second, Now: func() time.Time { return now }}
	bad, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	l.Succeeded(bad, "worker")
	for i := range 3 {
		if w := l.Wait(bad); w != 0 {
			t.Fatalf("waits %v after %d failures", w, i)
		}
		l.Failed(bad)
	}
	if w := l.Wait(bad); w != time.Second {
		t.Errorf("waits %v after the third", w)
	}
	if l.Wait(other) != 0 || l.Wait(netip.MustParseAddr("::ffff:192.0.2.1")) == 0 {
		t.Error("addresses are mixed up")
	}
	if !l.Known(bad, "worker") || l.Known(other, "worker") || l.Known(bad, "guess") {
		t.Error("who succeeded before is mixed up")
	}
	now = now.Add(time.Second)
	if w := l.Wait(bad); w != 0 {
		t.Errorf("waits %v a second later", w)
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff")
	for range 3 {
		l.Failed(a)
	}
	if l.Wait(b) == 0 {
		t.Error("another address of the same /64 goes on")
	}
}

// However many addresses come, the memory stays bounded.
func TestLimiterBounded(t *testing.T) {
	var l Limiter
	for i := range mostAddresses + 500 {
		l.Failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := len(l.seen); n > mostAddresses {
		t.Errorf("%d addresses are kept", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a read " + Hash("x")))
	f.Add([]byte("a read,admin " + Hash("x") + " # c\n\nb submit " + Hash("y")))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Parse(data)
		if err != nil && set.Len() != 0 {
			t.Error("tokens beside an error")
		}
		for _, e := range set.entries {
			if e.Name == "" || e.Scope < Read || e.Scope > Admin {
				t.Errorf("accepted %+v", e.Identity)
			}
		}
		if _, ok := set.Find(""); ok && !strings.Contains(strings.ToLower(string(data)), Hash("")) {
			t.Error("the empty token is known")
		}
	})
}
