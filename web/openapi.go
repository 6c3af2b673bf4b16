package web

import (
	_ "embed"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"go.yaml.in/yaml/v2"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/library"
)

//go:embed openapi.yaml
var openapiBase []byte

// openapiRoutes serves the description of all routes.
func (s *Server) openapiRoutes() { s.api().get("/openapi.json", open, s.openapi) }

// openapi answers with the OpenAPI document: the base, this program's version, and a path for each named workflow with the
// schema of its parameters.
func (s *Server) openapi(c *gin.Context) {
	document, err := s.openapiDocument()
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	c.Header("Cache-Control", noCache)
	s.answerJSON(c, http.StatusOK, document)
}

func (s *Server) openapiDocument() (map[string]any, error) {
	var base any
	if err := yaml.Unmarshal(openapiBase, &base); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	document, ok := stringKeys(base).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read openapi.yaml: %T is no mapping", base)
	}
	document["info"].(map[string]any)["version"] = s.Version
	if s.library == nil {
		return document, nil
	}
	paths := document["paths"].(map[string]any)
	call := paths["/workflows/{name}"].(map[string]any)["post"].(map[string]any)
	for _, e := range s.library.List() {
		if e.Workflow != nil {
			paths["/workflows/"+e.Name] = gin.H{"post": namedOperation(e.Workflow, call)}
		}
	}
	return document, nil
}

// stringKeys turns what YAML reads into what JSON writes.
func stringKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[fmt.Sprint(key)] = stringKeys(value)
		}
		return out
	case []any:
		for i := range v {
			v[i] = stringKeys(v[i])
		}
	}
	return v
}

// namedOperation describes the calling of one workflow: as that of any, with its own parameters.
func namedOperation(w *library.Workflow, call map[string]any) map[string]any {
	schema := w.Schema()[1:] // the dialect is the document's
	body := gin.H{"content": gin.H{
		"application/json": gin.H{"schema": schema}, "multipart/form-data": gin.H{"schema": formSchema(w)},
	}}
	for i := range w.Params {
		if w.Params[i].Required {
			body["required"] = true
		}
	}
	return gin.H{
		"tags": []string{"workflows"}, "operationId": "call_" + w.Name, "summary": w.Title, "description": w.Description,
		"x-digest": w.Digest, "parameters": call["parameters"], "requestBody": body, "responses": call["responses"],
	}
}

// formSchema is the schema of a form, in which pictures are files.
func formSchema(w *library.Workflow) engine.Members {
	properties, required := engine.Members{}, []string{}
	for i := range w.Params {
		p := &w.Params[i]
		schema := p.Schema()
		if p.Type == library.Picture {
			schema = engine.Members{{Key: "title", Value: p.Title}, {Key: "type", Value: "string"}, {Key: "format", Value: "binary"}}
		}
		properties = append(properties, engine.Member{Key: p.Name, Value: schema})
		if p.Required {
			required = append(required, p.Name)
		}
	}
	return engine.Members{
		{Key: "type", Value: "object"}, {Key: "properties", Value: properties},
		{Key: "required", Value: required}, {Key: "additionalProperties", Value: false},
	}
}
