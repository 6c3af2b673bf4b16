package web

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
)

func TestOpenAPI(t *testing.T) {
	b := newBench(t, false)
	resp, data := b.do("GET", "/openapi.json", nil)
	if resp.StatusCode != 200 {
		t.Fatalf("status %d: %s", resp.StatusCode, data)
	}
	document, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Error(err)
	}
	var documented []string
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	documented = slices.DeleteFunc(documented, func(s string) bool { return s == "POST /workflows/draw" || s == "POST /workflows/invert" })
	slices.Sort(documented)
	if diff := cmp.Diff(b.registered(), documented); diff != "" {
		t.Errorf("routes that are there (-) and routes that are documented (+) differ:\n%s", diff)
	}
	op := document.Paths.Find("/workflows/draw").Post
	schema := op.RequestBody.Value.Content["application/json"].Schema.Value
	if steps := schema.Properties["steps"].Value; steps.Max == nil || *steps.Max != 200 {
		t.Errorf("steps of the workflow draw are %+v", steps)
	}
	if document.Paths.Find("/workflows/invert").Post.RequestBody.Value.Required != true {
		t.Error("the body of a workflow with a required parameter is optional")
	}
}

// registered lists the routes as an OpenAPI document writes them: HEAD goes without saying, and so does the copy below
// /api of a route that is there without it.
func (b *bench) registered() []string {
	parameter := regexp.MustCompile(`[:*]([a-z]+)`)
	all := map[string]bool{}
	for _, r := range b.router.Routes() {
		if r.Method != "HEAD" {
			all[r.Method+" "+parameter.ReplaceAllString(r.Path, "{$1}")] = true
		}
	}
	var list []string
	for route := range all {
		method, path, _ := strings.Cut(route, " ")
		if bare, below := strings.CutPrefix(path, "/api"); !below || !all[method+" "+bare] {
			list = append(list, route)
		}
	}
	slices.Sort(list)
	return list
}
