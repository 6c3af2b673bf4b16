// Package auth tells who asks: it knows the tokens that a server accepts, what
// each may do, and which addresses guess too often.
//
// # Vocabulary
//
// A token is a secret word of 256 random bits; the server stores only its hash,
// SHA-256 in hexadecimal, so that the file of tokens opens nothing by itself. (A
// slow hash would add nothing: there is no dictionary of random words.) A scope is
// what a token allows; each includes the ones before it: read, submit, admin. A Set
// is the tokens of one moment, a File the set that a file holds, read anew when the
// file changes. A Limiter slows down guessing, address by address.
package auth

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Scope is what a token allows; a greater one allows more.
type Scope int

// The scopes, from nothing to everything.
const (
	None   Scope = iota
	Read         // see queue, history, pictures, catalogue
	Submit       // run workflows, upload, cancel
	Admin        // clear, free, change settings of everybody
)

// String is the word for a scope.
func (s Scope) String() string {
	if s < None || s > Admin {
		return "invalid"
	}
	return [...]string{"none", "read", "submit", "admin"}[s]
}

// ParseScope reads one or more words with commas between; the greatest counts.
func ParseScope(words string) (Scope, error) {
	most := None
	for _, word := range strings.Split(words, ",") {
		s := Admin
		for s > None && s.String() != word {
			s--
		}
		if s == None {
			return None, fmt.Errorf("scope %q: allowed are read, submit and admin", word)
		}
		most = max(most, s)
	}
	return most, nil
}

// prefix makes a leaked token easy to find in texts.
const prefix = "comfyrun_"

// NewToken makes a token, and the hash that belongs into the file of tokens.
func NewToken() (token, hash string) {
	var random [32]byte
	rand.Read(random[:])
	token = prefix + base64.RawURLEncoding.EncodeToString(random[:])
	return token, Hash(token)
}

// Hash is what the file of tokens holds of a token: SHA-256 in hexadecimal.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Identity is whom a token stands for.
type Identity struct {
	Name  string // as in the file of tokens
	Scope Scope
}

// Set is tokens by their hashes. The zero Set accepts none.
type Set struct{ entries []entry }

type entry struct {
	Identity
	hash [sha256.Size]byte
}

// Len is the number of tokens.
func (s Set) Len() int { return len(s.entries) }

// Find returns whose token it is. It takes the same time whether a token is known or not, and compares hashes in constant time.
func (s Set) Find(token string) (Identity, bool) {
	sum := sha256.Sum256([]byte(token))
	found := Identity{}
	ok := false
	for i := range s.entries {
		if subtle.ConstantTimeCompare(sum[:], s.entries[i].hash[:]) == 1 {
			found, ok = s.entries[i].Identity, true
		}
	}
	return found, ok
}

// Parse reads a file of tokens, one a line: a name, scopes, and the SHA-256 of the token, with blanks between. Empty lines and
// what follows a # are passed over.
//
//	# name  scopes   sha256 of the token
//	ci      submit   9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
func Parse(data []byte) (Set, error) {
	var s Set
	names, hashes := map[string]bool{}, map[[sha256.Size]byte]bool{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		e, err := parseLine(fields)
		switch {
		case err != nil:
		case names[e.Name]:
			err = fmt.Errorf("name %q is there twice", e.Name)
		case hashes[e.hash]:
			err = fmt.Errorf("%q has the token of another line", e.Name)
		}
		if err != nil {
			return Set{}, fmt.Errorf("parse tokens: line %d: %w", n, err)
		}
		names[e.Name], hashes[e.hash] = true, true
		s.entries = append(s.entries, e)
	}
	if err := lines.Err(); err != nil {
		return Set{}, fmt.Errorf("parse tokens: %w", err)
	}
	return s, nil
}

const longestName = 100

func parseLine(fields []string) (entry, error) {
	if len(fields) != 3 {
		return entry{}, fmt.Errorf("%d words, wanted are name, scopes and SHA-256 of the token", len(fields))
	}
	e := entry{Identity: Identity{Name: fields[0]}}
	if len(e.Name) > longestName || strings.ToValidUTF8(e.Name, "") != e.Name {
		return entry{}, fmt.Errorf("a name is UTF-8 of at most %d bytes", longestName)
	}
	var err error
	if e.Scope, err = ParseScope(fields[1]); err != nil {
		return entry{}, err
	}
	// The word itself stays out of the error: somebody may have put the token there.
	sum, err := hex.DecodeString(fields[2])
	if err != nil || len(sum) != sha256.Size {
		return entry{}, fmt.Errorf("the last word must be a SHA-256, 64 hexadecimal digits; it has %d characters", len(fields[2]))
	}
	e.hash = [sha256.Size]byte(sum)
	return e, nil
}
