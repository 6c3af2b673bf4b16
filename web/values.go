package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/library"
	"github.com/comfyrun/comfyrun/workflows"
)

// maxText bounds a text field of a form.
const maxText = 1 << 20

// picture is one that came with a call. Its name is made of its content: the same picture is stored once.
type picture struct {
	name string
	data []byte
}

// readValues reads the parameters of a call: a JSON object, or a form whose fields and files are named like parameters.
// Pictures that came with them are replaced by the names they will have; nothing is stored yet.
func readValues(r *http.Request, w *library.Workflow) (workflows.Object, []picture, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // one that cannot be read is none
	if kind == "multipart/form-data" {
		return readForm(r, w)
	}
	// Other types are not asked about, as POST /prompt does not ask: curl calls everything a form.
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, badBody("read body: %w", err)
	}
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] != '{' && kind != "" && kind != "application/json" {
		return nil, nil, callError{http.StatusUnsupportedMediaType, "unsupported_media_type",
			errors.New("parameters are sent as a JSON object or as multipart/form-data")}
	}
	return readJSON(data, w)
}

func badBody(format string, args ...any) error {
	return callError{http.StatusBadRequest, "invalid_body", fmt.Errorf(format, args...)}
}

func readJSON(data []byte, w *library.Workflow) (workflows.Object, []picture, error) {
	if len(data) == 0 {
		return nil, nil, nil
	}
	v, err := workflows.ParseValue(data)
	if err != nil {
		return nil, nil, badBody("read body: %w", err)
	}
	values, ok := v.Object()
	if !ok {
		return nil, nil, badBody("the body is a JSON object of parameters, not %s", v.Kind())
	}
	var pictures []picture
	for i, m := range values {
		p, known := w.Param(m.Key)
		if !known || p.Type != library.Picture {
			continue
		}
		text, given := encodedPicture(m.Value)
		if !given {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, nil, badBody("parameter %s: the picture is no base64: %w", m.Key, err)
		}
		pic, err := newPicture(m.Key, data)
		if err != nil {
			return nil, nil, err
		}
		values[i].Value = workflows.StringValue(pic.name)
		pictures = append(pictures, pic)
	}
	return values, pictures, nil
}

// encodedPicture is the base64 of a picture that stands in a value: {"data": "…"} or "data:image/png;base64,…".
func encodedPicture(v workflows.Value) (string, bool) {
	if o, ok := v.Object(); ok {
		data, _ := o.Get("data")
		text, ok := data.Str()
		if head, rest, found := strings.Cut(text, ";base64,"); found && strings.HasPrefix(head, "data:") {
			text = rest
		}
		return text, ok
	}
	text, _ := v.Str()
	head, rest, found := strings.Cut(text, ";base64,")
	return rest, found && strings.HasPrefix(head, "data:")
}

// newPicture names a picture by its content.
func newPicture(param string, data []byte) (picture, error) {
	endings := map[string]string{
		"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif", "image/bmp": ".bmp",
	}
	ending, ok := endings[http.DetectContentType(data)]
	if !ok {
		return picture{}, badBody("parameter %s: %d bytes that are no PNG, JPEG, WebP, GIF or BMP", param, len(data))
	}
	sum := sha256.Sum256(data)
	return picture{"upload-" + hex.EncodeToString(sum[:10]) + ending, data}, nil
}

// storePictures writes those that are not there yet.
func (s *Server) storePictures(list []picture) error {
	for _, p := range list {
		root, err := s.folders[inputFolder].open()
		if err != nil {
			return err
		}
		if info, err := root.Stat(p.name); err == nil && info.Size() == int64(len(p.data)) {
			continue
		}
		if err := replaceFile(root, p.name, bytes.NewReader(p.data)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("store picture: %w", err)
		}
	}
	return nil
}

// readForm reads a form: text fields by the types of their parameters, files for pictures.
func readForm(r *http.Request, w *library.Workflow) (workflows.Object, []picture, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, nil, badBody("read form: %w", err)
	}
	var f formValues
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			return f.values, f.pictures, nil
		}
		if err != nil {
			return nil, nil, badBody("read form: %w", err)
		}
		if err := f.add(part, w); err != nil {
			return nil, nil, err
		}
	}
}

type formValues struct {
	values   workflows.Object
	pictures []picture
}

func (f *formValues) add(part *multipart.Part, w *library.Workflow) error {
	name := part.FormName()
	if slices.Contains(f.values.Keys(), name) {
		return badBody("parameter %s is given twice", name)
	}
	p, known := w.Param(name)
	isFile := part.FileName() != ""
	switch {
	case isFile && known && p.Type != library.Picture:
		return badBody("parameter %s is %s, not a file", name, p.Type)
	case isFile && known:
		data, err := io.ReadAll(part) // bounded by the body
		if err != nil {
			return badBody("read form: %w", err)
		}
		pic, err := newPicture(name, data)
		if err != nil {
			return err
		}
		f.pictures = append(f.pictures, pic)
		f.values.Set(name, workflows.StringValue(pic.name))
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(part, maxText+1))
	if err != nil {
		return badBody("read form: %w", err)
	}
	if len(data) > maxText {
		return badBody("parameter %s is longer than %d bytes", name, maxText)
	}
	if v := formValue(string(data), p); !v.IsNull() {
		f.values.Set(name, v)
	}
	return nil
}

// formValue is the text of a field as the JSON that its parameter takes; a text that is none is left for the parameter to
// refuse. A field that was left empty counts as not given, except for a string.
func formValue(text string, p *library.Param) workflows.Value {
	plain := workflows.StringValue(text)
	if p == nil || p.Type == library.String {
		return plain
	}
	if text == "" {
		return workflows.Value{}
	}
	if p.Type == library.Choice || p.Type == library.Picture {
		return plain
	}
	v, err := workflows.ParseValue([]byte(strings.TrimSpace(text)))
	if err != nil || v.IsNull() {
		return plain
	}
	return v
}
