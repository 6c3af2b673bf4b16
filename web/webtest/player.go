package webtest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// Known is a difference that stands, with the reason for it. It covers the
// differences of one step at Path and below; a Path that begins with a star
// covers every path that ends like it, and AnyStep all steps.
type Known struct {
	Transcript string
	Step       int
	Path       string
	Reason     string
}

// AnyStep stands for the steps of all transcripts in a Known without Transcript.
const AnyStep = -1

// Player plays transcripts against the server at URL.
type Player struct {
	URL string
	// Folders are replaced in answers: a folder of this machine by its name in
	// the recording, "/base" for example.
	Folders map[string]string
	// After is called after each step, for a recording that depends on time.
	After func(t testing.TB, step int)
	// Patience is how long a GET is repeated while its answer differs.
	Patience time.Duration
	// Pace is that of the nodes of a conversation; nil: they go by the clock.
	Pace *Pace
	// Idle has the player wait after a POST /prompt until the queue is empty,
	// as the recorder did except for queue_control.
	Idle bool

	first string // prompt_id of the first answer
}

// Play sends the requests of a transcript and reports every difference that is
// not known, and what is known and does not occur.
func (p *Player) Play(t *testing.T, tr *Transcript, known []Known) {
	t.Helper()
	met := map[Known]bool{}
	for i, step := range tr.Steps {
		for _, d := range p.step(t, i, step, tr.Name, known) {
			k := slices.IndexFunc(known, func(k Known) bool { return k.covers(tr.Name, i, d.Path) })
			if k < 0 {
				t.Errorf("%s, step %d (%s %s) %s\n\t%s", tr.Name, i, step.Request.Method, step.Request.Path, step.Note, d)
				continue
			}
			met[known[k]] = true
		}
		if p.After != nil {
			p.After(t, i)
		}
	}
	for _, k := range known {
		if k.Transcript == tr.Name && !met[k] {
			t.Errorf("%s, step %d: %s does not differ, although that is known: %s", k.Transcript, k.Step, k.Path, k.Reason)
		}
	}
}

func (k Known) covers(transcript string, step int, path string) bool {
	if k.Step != AnyStep && (k.Transcript != transcript || k.Step != step) {
		return false
	}
	if end, ok := strings.CutPrefix(k.Path, "*"); ok {
		return strings.HasSuffix(path, end)
	}
	return path == k.Path || strings.HasPrefix(path, k.Path+"/")
}

// step plays one step, a GET until nothing unknown differs or Patience is over.
func (p *Player) step(t *testing.T, i int, step Step, name string, known []Known) []Difference {
	t.Helper()
	unknown := func(d Difference) bool {
		return !slices.ContainsFunc(known, func(k Known) bool { return k.covers(name, i, d.Path) })
	}
	for end := time.Now().Add(p.Patience); ; time.Sleep(10 * time.Millisecond) {
		got, err := p.Do(step.Request)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		p.remember(got)
		differences := p.Differences(step.Response, got)
		if step.Request.Method != http.MethodGet || time.Now().After(end) || !slices.ContainsFunc(differences, unknown) {
			return differences
		}
	}
}

func (p *Player) remember(a Answer) {
	var accepted struct {
		ID string `json:"prompt_id"`
	}
	if p.first == "" && json.Unmarshal(a.Body, &accepted) == nil {
		p.first = accepted.ID
	}
}

// Answer is what a server answered, its body decompressed.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request. After a POST /prompt it waits until the queue is empty,
// if the player is to.
func (p *Player) Do(r Request) (Answer, error) {
	body, contentType, err := r.body()
	if err != nil {
		return Answer{}, err
	}
	request, err := http.NewRequest(r.Method, p.URL+strings.ReplaceAll(r.Path, "{{first}}", p.first), bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	request.Header.Set("Accept-Encoding", "gzip, deflate")
	for name, value := range r.Headers {
		request.Header.Set(name, value)
		if http.CanonicalHeaderKey(name) == "Host" {
			request.Host = value
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	data, err := decompress(response)
	if err == nil && p.Idle && r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/prompt") && response.StatusCode == http.StatusOK {
		err = p.WaitIdle()
	}
	return Answer{response.StatusCode, response.Header, data}, err
}

func decompress(r *http.Response) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil || len(data) == 0 {
		return data, err
	}
	var plain io.Reader
	switch r.Header.Get("Content-Encoding") {
	case "gzip":
		plain, err = gzip.NewReader(bytes.NewReader(data))
	case "deflate":
		if plain, err = zlib.NewReader(bytes.NewReader(data)); err != nil {
			plain, err = flate.NewReader(bytes.NewReader(data)), nil
		}
	default:
		return data, nil
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// WaitIdle waits until nothing is queued or running.
func (p *Player) WaitIdle() error {
	const limit = time.Minute
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		a, err := (&Player{URL: p.URL}).Do(Request{Method: http.MethodGet, Path: "/prompt"})
		if err != nil {
			return err
		}
		if bytes.Contains(a.Body, []byte(`"queue_remaining":0`)) || bytes.Contains(a.Body, []byte(`"queue_remaining": 0`)) {
			return nil
		}
	}
	return fmt.Errorf("wait for an empty queue: it is not after %v", limit)
}

// body is the request's body and its content type.
func (r Request) body() (data []byte, contentType string, err error) {
	switch {
	case r.JSON != nil:
		return r.JSON, "application/json", nil
	case r.Text != nil:
		return expand(*r.Text), "", nil
	case r.Multipart != nil:
		return form(r.Multipart)
	}
	return nil, "", nil
}

// expand undoes the shortening of a long recorded text: "xxx… (11000 times x)".
func expand(text string) []byte {
	before, after, ok := strings.Cut(text, "… (")
	var n int
	var c rune
	if !ok {
		return []byte(text)
	}
	if _, err := fmt.Sscanf(after, "%d times %c)", &n, &c); err != nil {
		return []byte(text)
	}
	_, rest, _ := strings.Cut(after, ")")
	return []byte(strings.TrimRight(before, string(c)) + strings.Repeat(string(c), n) + rest)
}

func form(parts []Part) (data []byte, contentType string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range parts {
		content := []byte(part.Value)
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"`, part.Name)}}
		if part.File != "" {
			header.Set("Content-Disposition", fmt.Sprintf(`form-data; name="%s"; filename="%s"`, part.Name, part.Filename))
			if content, err = fs.ReadFile(Uploads(), part.File); err != nil {
				return nil, "", err
			}
		}
		if part.ContentType != "" {
			header.Set("Content-Type", part.ContentType)
		}
		pw, err := w.CreatePart(header)
		if err != nil {
			return nil, "", err
		}
		if _, err := pw.Write(content); err != nil {
			return nil, "", err
		}
	}
	err = w.Close()
	return b.Bytes(), w.FormDataContentType(), err
}

// freeHeaders may differ.
var freeHeaders = []string{"etag", "last-modified", "server", "date"}

// Differences compares an answer with a recorded one.
func (p *Player) Differences(want Response, got Answer) []Difference {
	var out []Difference
	if want.Status != got.Status {
		out = append(out, Difference{"status", fmt.Sprint(want.Status), fmt.Sprintf("%d %s", got.Status, got.Body)})
	}
	for _, name := range slices.Sorted(maps.Keys(want.Headers)) {
		value := got.Header.Get(name)
		bodyless := name == "content-type" && value == "" && len(got.Body) == 0
		if !slices.Contains(freeHeaders, name) && !bodyless && !sameText("", want.Headers[name], value) {
			out = append(out, Difference{"headers/" + name, want.Headers[name], value})
		}
	}
	if want.Status != got.Status && want.Status < http.StatusBadRequest {
		return out // what else differs says nothing
	}
	body := got.Body
	for folder, name := range p.Folders {
		body = bytes.ReplaceAll(body, []byte(folder), []byte(name))
	}
	switch {
	case want.JSON != nil:
		out = append(out, Compare("json", want.JSON, body)...)
	case want.Text != nil && !sameText("text", *want.Text, string(body)):
		out = append(out, Difference{"text", *want.Text, string(body)})
	case want.Picture != nil:
		out = append(out, want.Picture.differences(body)...)
	case want.Keys != nil:
		out = append(out, compareKeys(want.Keys, body)...)
	}
	return out
}

// compareKeys compares the keys of an object in their order.
func compareKeys(want []string, body []byte) []Difference {
	got, err := keys(body)
	if err != nil || len(got) != len(want) {
		return []Difference{{"keys", strings.Join(want, ", "), strings.Join(got, ", ")}}
	}
	for i := range want {
		if !pattern(want[i]).MatchString(got[i]) {
			return []Difference{{"keys", strings.Join(want, ", "), strings.Join(got, ", ")}}
		}
	}
	return nil
}

// keys are the keys of a JSON object, in order.
func keys(data []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	var out []string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprint(key))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
	}
	return out, nil
}
