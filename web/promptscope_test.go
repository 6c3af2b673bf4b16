package web

import (
	"net/http"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/web/auth"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// Who may submit does not clear what others have submitted, nor stop it with an interrupt that names no prompt.
func TestOthersPromptsAreSafe(t *testing.T) {
	l := newLocked(t, Options{})
	send := func(scope auth.Scope, path, body string) int {
		t.Helper()
		a, err := (&webtest.Player{URL: l.url}).Do(webtest.Request{Method: http.MethodPost, Path: path, Text: &body,
			Headers: map[string]string{"Authorization": "Bearer " + l.tokens[scope]}})
		if err != nil {
			t.Fatal(err)
		}
		return a.Status
	}
	leases := map[auth.Scope]*queue.Lease{}
	for _, scope := range []auth.Scope{auth.Admin, auth.Submit} {
		if status := send(scope, "/prompt", smallPrompt("")); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		lease, err := l.Queue.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leases[scope] = lease
	}
	for _, path := range []string{"/queue", "/history"} {
		if status := send(auth.Submit, path, `{"clear":true}`); status != http.StatusForbidden {
			t.Errorf("POST %s to clear: status %d", path, status)
		}
		if status := send(auth.Submit, path, `{"clear":false,"delete":["x"]}`); status != http.StatusOK {
			t.Errorf("POST %s to delete: status %d", path, status)
		}
		if status := send(auth.Admin, path, `{"clear":true}`); status != http.StatusOK {
			t.Errorf("POST %s to clear by an admin: status %d", path, status)
		}
	}
	if status := send(auth.Submit, "/interrupt", ""); status != http.StatusOK {
		t.Errorf("POST /interrupt: status %d", status)
	}
	select {
	case <-leases[auth.Submit].Stopped():
	case <-time.After(time.Minute):
		t.Error("the prompt of the token itself goes on")
	}
	select {
	case <-leases[auth.Admin].Stopped():
		t.Error("the prompt of another token is stopped")
	case <-time.After(50 * time.Millisecond):
	}
}
