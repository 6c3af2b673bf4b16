// Package remote is how a server calls other machines because a client wants it: to fetch pictures that a prompt names by
// URL, and to tell somebody that a prompt has ended.
//
// # Vocabulary
//
// A pattern is a URL that the operator allows, as https://*.example.com/pictures/*; without patterns nothing is called.
// The guard looks at the address that a connection really goes to, after every lookup and redirect: private, local and
// special ones are refused, so that no client reaches what only the server can reach, whatever a name resolves to. An
// exempt network is one that the operator allows all the same. An input is a picture fetched into the input folder,
// named after its content. A webhook is a POST with a prompt's result, signed after the Standard Webhooks specification.
package remote

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"syscall"
	"time"
)

// ErrNotAllowed says that a URL or address is not among those that the operator allows.
var ErrNotAllowed = errors.New("not allowed")

// Allow is which URLs may be called.
type Allow struct {
	patterns []pattern
	exempt   []netip.Prefix
}

type pattern struct {
	text, scheme, host, port, path string
}

// NewAllow reads patterns: SCHEME://HOST[:PORT][/PATH]. The scheme is http or https. A host that begins with *. stands for
// every name below it, but not for itself. A path that ends in * stands for everything that begins so; no path stands for every
// path. Exempt networks may be reached although they are private.
func NewAllow(patterns []string, exempt ...netip.Prefix) (*Allow, error) {
	a := &Allow{exempt: exempt}
	for _, text := range patterns {
		p, err := parsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("URL pattern %q: %w", text, err)
		}
		a.patterns = append(a.patterns, p)
	}
	return a, nil
}

func parsePattern(text string) (pattern, error) {
	u, err := url.Parse(text)
	if err != nil {
		return pattern{}, errors.New("not a URL")
	}
	p := pattern{text: text, scheme: u.Scheme, host: strings.TrimPrefix(hostOf(u), "*."), port: portOf(u), path: u.Path}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return pattern{}, errors.New("begins with neither https:// nor http://")
	case p.host == "" || strings.Contains(p.host, "*"):
		return pattern{}, errors.New("the host is a name, an address or *.NAME")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return pattern{}, errors.New("has a user, query or fragment")
	case strings.Contains(strings.TrimSuffix(u.Path, "*"), "*"):
		return pattern{}, errors.New("the path has a * other than at its end")
	}
	if strings.HasPrefix(u.Hostname(), "*.") {
		p.host = "." + p.host
	}
	if p.path == "" {
		p.path = "/*"
	}
	return p, nil
}

func hostOf(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// Check says whether a URL may be called; the error wraps ErrNotAllowed.
func (a *Allow) Check(u *url.URL) error {
	if u.User != nil || u.Opaque != "" || hostOf(u) == "" {
		return fmt.Errorf("call %s: %w: a URL with a user, or without a host", u.Redacted(), ErrNotAllowed)
	}
	for _, p := range a.patterns {
		if p.fits(u) {
			return nil
		}
	}
	return fmt.Errorf("call %s://%s: %w, %s", u.Scheme, u.Host, ErrNotAllowed, a.listed())
}

func (a *Allow) listed() string {
	if len(a.patterns) == 0 {
		return "no URL is"
	}
	var texts []string
	for _, p := range a.patterns {
		texts = append(texts, p.text)
	}
	return "allowed: " + strings.Join(texts, ", ")
}

func (p pattern) fits(u *url.URL) bool {
	host := hostOf(u)
	if p.scheme != u.Scheme || p.port != portOf(u) {
		return false
	}
	if below := strings.HasPrefix(p.host, "."); below && !strings.HasSuffix(host, p.host) || !below && host != p.host {
		return false
	}
	// Dots that lead out of the folder, written plainly or escaped, fit no pattern of a folder.
	at := u.Path
	if at == "" {
		at = "/"
	}
	if clean := path.Clean(at); clean != at && clean+"/" != at || strings.Contains(at, `\`) {
		return false
	}
	if prefix, tree := strings.CutSuffix(p.path, "*"); tree {
		return strings.HasPrefix(at, prefix)
	}
	return at == p.path
}

const (
	connectWait  = 10 * time.Second
	answerWait   = 30 * time.Second
	mostRedirect = 3
)

// Client makes an http.Client that calls allowed URLs on allowed addresses only. It uses no proxy, whose address would be
// the only one that the guard sees, keeps no cookies, and follows a redirect only to a URL that is allowed too.
func (a *Allow) Client(timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: connectWait, Control: a.control}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: connectWait, ResponseHeaderTimeout: answerWait,
			ForceAttemptHTTP2: true, MaxIdleConns: 16, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > mostRedirect {
				return fmt.Errorf("more than %d redirects", mostRedirect)
			}
			if r.Method != via[0].Method {
				return errors.New("redirected with a status that drops the body; 307 or 308 keep it")
			}
			return a.Check(r.URL)
		},
	}
}

// control is asked by the dialer with the very address that it is about to connect to.
func (a *Allow) control(network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return fmt.Errorf("connect to %s %s: %w", network, address, ErrNotAllowed)
	}
	ip := at.Addr().Unmap()
	for _, p := range a.exempt {
		if p.Contains(ip) {
			return nil
		}
	}
	if why := special(ip); why != "" {
		return fmt.Errorf("connect to %s: %w: it is %s", ip, ErrNotAllowed, why)
	}
	return nil
}

// special says what is special about an address that no client may have the server call; "": nothing.
func special(ip netip.Addr) string {
	ip = ip.Unmap()
	switch {
	case ip.Zone() != "":
		return "of one link"
	case ip.IsLoopback():
		return "this machine"
	case ip.IsPrivate():
		return "private"
	case ip.IsLinkLocalUnicast(), ip.IsLinkLocalMulticast(), ip.IsInterfaceLocalMulticast():
		return "of the local link"
	case ip.IsMulticast(), ip.IsUnspecified():
		return "no single machine"
	}
	for _, p := range reserved() {
		if p.Contains(ip) {
			return "reserved (" + p.String() + ")"
		}
	}
	return ""
}

// reserved are the networks of IANA's registries of special addresses that netip has no method for. Those that carry IPv4
// addresses inside (NAT64, 6to4, Teredo) are refused whole.
func reserved() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}
