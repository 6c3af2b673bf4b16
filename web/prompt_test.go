package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// small is a prompt that is valid and quickly run.
const small = `{"1":{"class_type":"FxSleep","inputs":{"value":%d,"ms":0}},"2":{"class_type":"FxShow","inputs":{"value":["1",0]}}}`

func smallPrompt(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"prompt":` + fmt.Sprintf(small, 1) + members + `}`
}

func TestIdempotencyKey(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	_, first := s.post(t, "/prompt", smallPrompt(""), "Idempotency-Key", "order 7")
	_, again := s.post(t, "/prompt", smallPrompt(""), "Idempotency-Key", "order 7")
	_, other := s.post(t, "/prompt", smallPrompt(""), "Idempotency-Key", "order 8")
	if first != again || first == other {
		t.Errorf("first %s, again %s, other %s", first, again, other)
	}
	if n := s.queue.Depth(); n != 2 {
		t.Errorf("%d prompts are queued, want 2", n)
	}
}

func TestFullQueue(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true, MaxQueued: 1})
	body := smallPrompt("")
	r := webtest.Request{Method: http.MethodPost, Path: "/prompt", Text: &body}
	for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		a, err := (&webtest.Player{URL: s.url}).Do(r)
		if err != nil || a.Status != want {
			t.Fatalf("request %d: status %d, error %v, want %d: %s", i, a.Status, err, want, a.Body)
		}
		if retry := a.Header.Get("Retry-After"); (retry != "") != (want == http.StatusTooManyRequests) {
			t.Errorf("request %d: Retry-After is %q", i, retry)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	ui := `{"nodes":[{"id":1,"type":"EmptyImage"}],"links":[],"version":0.4}`
	for _, tt := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"editor's format", `{"prompt":` + ui + `}`, 400, "Export (API)"},
		{"editor's format as the body", ui, 400, "Export (API)"},
		{"extra data that is none", smallPrompt(`"extra_data":[1]`), 400, "extra_data is no object"},
		{"id that is none", smallPrompt(`"prompt_id":{}`), 400, "invalid_prompt_id"},
		{"endless number", smallPrompt(`"number":"inf"`), 400, "not finite"},
		{"number that is none", smallPrompt(`"number":[]`), 500, "trouble"},
		{"targets that are none", smallPrompt(`"partial_execution_targets":"2"`), 400, "partial_execution_targets"},
		{"long id", smallPrompt(`"prompt_id":"` + strings.Repeat("x", 2000) + `"`), 400, "longer than"},
		{"deep", `{"prompt":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 101), 400, "cannot be read"},
		{"same node twice", `{"prompt":{"1":{"class_type":"FxShow","inputs":{"value":1}},"1":{"class_type":"FxShow","inputs":{"value":2}}}}`, 400, "occurs twice"},
		{"class that is a list", `{"prompt":{"1":{"class_type":["FxShow"],"inputs":{}}}}`, 400, "does not exist"},
		{"inputs that are a number", `{"prompt":{"1":{"class_type":"FxShow","inputs":7}}}`, 400, "required_input_missing"},
		{"_meta that is a list", `{"prompt":{"1":{"class_type":"FxShow","inputs":{"value":1},"_meta":[]}}}`, 200, ""},
		{"NaN as Python writes it", `{"prompt":{"1":{"class_type":"FxEcho","inputs":{"i":1,"f":NaN,"s":"NaN","b":true,"c":"a"}}}}`, 200, ""},
		{"infinity beyond the range", `{"prompt":{"1":{"class_type":"FxEcho","inputs":{"i":1,"f":-Infinity,"s":"","b":true,"c":"a"}}}}`, 400, "Value -inf smaller than min of -1.0"},
		{"integer beyond 64 bits", `{"prompt":{"1":{"class_type":"FxShow","inputs":{"value":1e400}}}}`, 400, "invalid_input_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := s.post(t, "/prompt", tt.body)
			if status != tt.status || !strings.Contains(answer, tt.says) {
				t.Errorf("status %d, want %d with %q: %s", status, tt.status, tt.says, answer)
			}
		})
	}
}

func TestClosedQueue(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	s.queue.Close()
	status, answer := s.post(t, "/prompt", smallPrompt(""))
	if status != http.StatusServiceUnavailable {
		t.Errorf("status %d: %s", status, answer)
	}
}

// What a client sends to pay for services of others is for the worker only.
func TestSecretsStaySecret(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	status, answer := s.post(t, "/prompt", smallPrompt(
		`"prompt_id":"p","client_id":"c","extra_data":{"auth\u005ftoken_comfy_org":"hush-1","api_key_comfy_org":"hush-2","k":1}`))
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, answer)
	}
	check := func(path, want string) {
		if _, got := s.get(t, path); strings.Contains(got, "hush") || !strings.Contains(got, want) {
			t.Errorf("GET %s: %s", path, got)
		}
	}
	const extra = `{"k":1,"client_id":"c"}`
	check("/queue", extra)
	check("/api/jobs/p", extra)
	lease, err := s.queue.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if secret := string(lease.Prompt.Secret); secret != `{"auth_token_comfy_org":"hush-1","api_key_comfy_org":"hush-2"}` {
		t.Errorf("the worker gets the secret %s", secret)
	}
	if err := lease.Done(t.Context(), json.RawMessage(`{"outputs":{},"status":{},"meta":{}}`)); err != nil {
		t.Fatal(err)
	}
	check("/history/p", extra)
	check("/history", extra)
}

// A worker reads the queued graph as a client's, whatever shapes its literals have.
func TestQueuedGraphRunsAgain(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	s.work(t)
	for _, literal := range []string{`{"__value__":["9",0]}`, `{"__value__":[1,2]}`, `{"__value__":{"__value__":[1]}}`, `{"x":[1]}`, `null`} {
		_, answer := s.post(t, "/prompt", `{"prompt":{"1":{"class_type":"FxEcho","inputs":{"i":1,"f":0.5,"s":"","b":true,"c":"a","any":`+literal+`}}},"prompt_id":"p"}`)
		if !strings.Contains(answer, `"node_errors":{}`) {
			t.Errorf("%s: %s", literal, answer)
			continue
		}
		if err := (&webtest.Player{URL: s.url}).WaitIdle(); err != nil {
			t.Fatal(err)
		}
		_, history := s.get(t, "/history/p")
		if !strings.Contains(history, `"status_str":"success"`) {
			t.Errorf("%s: %s", literal, history)
		}
	}
}

func TestObjectInfoChoicesAreCurrent(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	const name = "new.png"
	if _, before := s.get(t, "/object_info/LoadImage"); strings.Contains(before, name) {
		t.Fatal("the new picture is there already")
	}
	copyFile(t, filepath.Join(s.base, "input", "rgb.png"), filepath.Join(s.base, "input", name))
	for _, path := range []string{"/object_info/LoadImage", "/object_info"} {
		if _, after := s.get(t, path); !strings.Contains(after, name) {
			t.Errorf("GET %s does not list the new picture", path)
		}
	}
}

// Prompts wait in the order of their numbers, and jobs say the same as queue and history.
func TestJobs(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	for i, members := range []string{`"prompt_id":"a"`, `"prompt_id":"b","front":true`, `"prompt_id":"c","number":-7,"extra_data":{"extra_pnginfo":{"workflow":{"id":"w-1"}}}`} {
		if status, answer := s.post(t, "/prompt", `{"prompt":`+fmt.Sprintf(small, i)+","+members+`}`); status != http.StatusOK {
			t.Fatal(answer)
		}
	}
	if _, got := s.get(t, "/api/jobs?status=completed"); !strings.Contains(got, `"total":0`) {
		t.Errorf("jobs that have ended: %s", got)
	}
	if got := s.jobIDs(t, "?workflow_id=w-1"); !slices.Equal(got, []string{"c"}) {
		t.Errorf("jobs of the workflow: %v", got)
	}
	if _, got := s.post(t, "/api/jobs/cancel", `{"job_ids":["b","nobody"]}`); got != `{"cancelled":true}` {
		t.Errorf("cancel: %s", got)
	}
	if _, got := s.post(t, "/api/jobs/b/cancel", ""); got != `{"cancelled":false}` {
		t.Errorf("cancel again: %s", got)
	}
	s.work(t)
	if err := (&webtest.Player{URL: s.url}).WaitIdle(); err != nil {
		t.Fatal(err)
	}
	if got := s.jobIDs(t, "?status=completed&sort_order=asc"); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("jobs that have ended: %v", got)
	}
	if got := s.jobIDs(t, "?limit=1&offset=1&sort_order=asc"); !slices.Equal(got, []string{"c"}) {
		t.Errorf("second job: %v", got)
	}
	_, got := s.get(t, "/api/jobs/c")
	for _, want := range []string{`"status":"completed"`, `"priority":-7.0`, `"preview_output":{"content":"2","nodeId":"2","mediaType":"text"}`,
		`"workflow_id":"w-1"`, `"outputs":{"2":{"text":["2"]}}`, `"execution_status":{`, `"workflow":{"extra_data":`} {
		if !strings.Contains(got, want) {
			t.Errorf("job misses %s: %s", want, got)
		}
	}
}

// Of a long history only what a page shows is read.
func TestJobsOfLongHistory(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	const n = 700
	for i := range n {
		p := queue.Prompt{ID: fmt.Sprintf("p%03d", i), Graph: json.RawMessage(`{}`)}
		if _, err := s.queue.Submit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		lease, err := s.queue.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Done(t.Context(), json.RawMessage(`{"outputs":{}}`)); err != nil {
			t.Fatal(err)
		}
	}
	const all = "?status=completed,failed,cancelled"
	if got := s.jobIDs(t, all+"&limit=2&offset=1"); !slices.Equal(got, []string{"p698", "p697"}) {
		t.Errorf("second page: %v", got)
	}
	if got := s.jobIDs(t, all+"&limit=2&offset=698"); !slices.Equal(got, []string{"p001", "p000"}) {
		t.Errorf("last page: %v", got)
	}
	for query, want := range map[string]string{all + "&limit=2": `"has_more":true`, all + "&limit=2&offset=698": `"has_more":false`, all: `"total":700`} {
		if _, got := s.get(t, "/api/jobs"+query); !strings.Contains(got, want) {
			t.Errorf("%s: no %s", query, want)
		}
	}
	var page jobQuery
	page.statuses, page.limit = jobStatuses, 10
	if got := page.newest(n); got != 74 {
		t.Errorf("%d entries are read", got)
	}
}

func (s *stage) jobIDs(t testing.TB, query string) []string {
	t.Helper()
	_, answer := s.get(t, "/api/jobs"+query)
	var list struct{ Jobs []struct{ ID string } }
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	var ids []string
	for _, j := range list.Jobs {
		ids = append(ids, j.ID)
	}
	return ids
}

func TestJobsRefusals(t *testing.T) {
	s := newStage(t, queue.Options{Memory: true})
	for _, path := range []string{"/api/jobs?status=odd", "/api/jobs?limit=0", "/api/jobs?limit=x", "/api/jobs?offset=x", "/api/jobs?sort_by=name", "/api/jobs?sort_order=up"} {
		if status, answer := s.get(t, path); status != http.StatusBadRequest || !strings.Contains(answer, `{"error":`) {
			t.Errorf("GET %s: status %d: %s", path, status, answer)
		}
	}
	if status, _ := s.get(t, "/api/jobs/nobody"); status != http.StatusNotFound {
		t.Errorf("an unknown job has status %d", status)
	}
	if status, _ := s.get(t, "/jobs"); status != http.StatusNotFound {
		t.Errorf("/jobs without /api has status %d", status)
	}
	for _, body := range []string{"", "[]", `{"job_ids":"a"}`, `{"job_ids":[1]}`, `{"job_ids":null}`} {
		if status, answer := s.post(t, "/api/jobs/cancel", body); status != http.StatusBadRequest {
			t.Errorf("cancel %s: status %d: %s", body, status, answer)
		}
	}
}

func TestJobOutputs(t *testing.T) {
	for _, tt := range []struct {
		name, outputs, preview string
		count, previewable     int
	}{
		{"nothing", `{}`, ``, 0, 0},
		{"saved picture wins", `{"1":{"images":[{"filename":"t.png","subfolder":"","type":"temp"}]},"2":{"images":[{"filename":"o.png","subfolder":"","type":"output"}],"animated":[false]}}`,
			`{"filename":"o.png","subfolder":"","type":"output","nodeId":"2","mediaType":"images"}`, 2, 2},
		{"solid as a text", `{"1":{"result":["sub/a.glb","plain"]}}`, `{"filename":"a.glb","subfolder":"sub","type":"output","nodeId":"1","mediaType":"3d"}`, 1, 1},
		{"text file", `{"1":{"files":[{"filename":"a.txt","type":"output"}],"text":["raw"]}}`, `{"filename":"a.txt","type":"output","nodeId":"1","mediaType":"files"}`, 1, 1},
		{"unknown", `{"1":{"odd":[{"x":1},5,"y"],"n":3}}`, ``, 1, 0},
		{"long text", `{"1":{"text":["` + strings.Repeat("é", 1030) + `"]}}`, `{"content":"` + strings.Repeat(`\u00e9`, 1024) + `","truncated":true,"nodeId":"1","mediaType":"text"}`, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var outputs object
			if err := json.Unmarshal([]byte(tt.outputs), &outputs); err != nil {
				t.Fatal(err)
			}
			found := findOutputs(outputs)
			preview := ""
			if found.preview != nil {
				data, err := found.preview.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				preview = string(data)
			}
			if found.count != tt.count || found.previewable != tt.previewable || preview != tt.preview {
				t.Errorf("got %d, %d, %s; want %d, %d, %s", found.count, found.previewable, preview, tt.count, tt.previewable, tt.preview)
			}
		})
	}
}
