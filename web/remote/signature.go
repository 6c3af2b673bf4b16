package remote

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of a webhook, as the Standard Webhooks specification names them (standardwebhooks.com).
const (
	HeaderID        = "Webhook-Id"        // the same in every repetition
	HeaderTimestamp = "Webhook-Timestamp" // Unix time of this attempt
	HeaderSignature = "Webhook-Signature" // v1,BASE64
)

const secretPrefix = "whsec_"

// NewSecret makes a secret for signatures: whsec_ and 32 random bytes in base64.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return secretPrefix + base64.StdEncoding.EncodeToString(b[:])
}

// Secret is what signatures are made with.
type Secret []byte

// ParseSecret reads a secret as NewSecret writes it; it has at least 24 bytes.
func ParseSecret(text string) (Secret, error) {
	coded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	b, err := base64.StdEncoding.DecodeString(coded)
	if !ok || err != nil || len(b) < 24 {
		return nil, errors.New("webhook secret: wanted is whsec_ and at least 24 bytes in base64")
	}
	return b, nil
}

// Sign is the signature of a message: HMAC-SHA256 of ID.TIMESTAMP.BODY.
func (s Secret) Sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, s)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Verify checks a message as a receiver does: one of its signatures must be right, and its time within a few minutes of now,
// so that nobody repeats an old one.
func (s Secret) Verify(h http.Header, body []byte, now time.Time) error {
	const tolerance = 5 * time.Minute
	seconds, err := strconv.ParseInt(h.Get(HeaderTimestamp), 10, 64)
	if err != nil {
		return fmt.Errorf("verify webhook: no time in %s", HeaderTimestamp)
	}
	at := time.Unix(seconds, 0)
	if d := now.Sub(at); d > tolerance || d < -tolerance {
		return fmt.Errorf("verify webhook: it is of %v, more than %v from now", at.UTC(), tolerance)
	}
	want := s.Sign(h.Get(HeaderID), at, body)
	for _, signature := range strings.Fields(h.Get(HeaderSignature)) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return nil
		}
	}
	return errors.New("verify webhook: no signature is right")
}
