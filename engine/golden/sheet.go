package golden

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"path"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// thumbnailSide is the longer side of the pictures on a sheet, in pixels.
const thumbnailSide = 256

// picturesFolder is where a sheet's files lie, below the sheet.
const picturesFolder = "pictures"

// views is how a picture is shown on a sheet.
type views struct {
	Before, After, Difference view
	Gain                      int // of the difference
}

// view is one picture, small inside of the page and whole in a file.
type view struct {
	Small template.URL // data: URL
	File  string       // below the sheet's folder, with slashes; "" without
}

// Draw makes what sheets show of a result and lets go of the pictures
// themselves. It returns the files that belong into the sheet's folder; number
// tells results apart.
func (r *Result) Draw(number int) ([]Write, error) {
	var writes []Write
	for i := range r.Pictures {
		p := &r.Pictures[i]
		base := fmt.Sprintf("%03d-%s%s", number, unfit.ReplaceAllString(path.Base(r.Name), "-"), dotted(p.Key))
		draw := func(v *view, kind string, picture imagefile.Picture) error {
			if picture.Width == 0 {
				return nil
			}
			small, err := encode(compare.Thumbnail(picture, thumbnailSide))
			if err != nil {
				return fmt.Errorf("draw %s: %w", base, err)
			}
			v.Small = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(small))
			if p.Compared && p.Difference.Identical() {
				return nil
			}
			whole, err := encode(picture)
			if err != nil {
				return fmt.Errorf("draw %s: %w", base, err)
			}
			v.File = picturesFolder + "/" + base + "." + kind + ".png"
			writes = append(writes, Write{v.File, whole})
			return nil
		}
		err := draw(&p.views.After, "after", p.After)
		if err == nil && !(p.Compared && p.Difference.Identical()) {
			err = draw(&p.views.Before, "before", p.Before)
		}
		if err == nil && p.Compared && !p.Difference.Identical() {
			var amplified imagefile.Picture
			amplified, p.views.Gain = compare.Amplified(p.Before, p.After)
			err = draw(&p.views.Difference, "difference", amplified)
		}
		if err != nil {
			return nil, err
		}
	}
	r.Release()
	return writes, nil
}

// Release lets go of the pictures, which take memory.
func (r *Result) Release() {
	for i := range r.Pictures {
		p := &r.Pictures[i]
		p.Before, p.After, p.data = imagefile.Picture{}, imagefile.Picture{}, nil
	}
}

// Views is how the picture is shown, once it was drawn.
func (p Picture) Views() views { return p.views }

// Sheets are the names of the files of a contact sheet.
const (
	SheetHTML     = "index.html"
	SheetMarkdown = "report.md"
)

//go:embed sheet.html
var sheetText string

// Ordered is the results with those first that need a look.
func (r Report) Ordered() []Result {
	order := []string{Failed, Broken, Orphan, Updated, NoGolden, Skipped, Passed, Unmoved}
	out := slices.Clone(r.Results)
	slices.SortStableFunc(out, func(a, b Result) int { return slices.Index(order, a.Status) - slices.Index(order, b.Status) })
	return out
}

// HTML is the contact sheet as one page that needs no other file.
func (r Report) HTML() ([]byte, error) {
	page, err := template.New("sheet").Parse(sheetText)
	if err != nil {
		return nil, fmt.Errorf("write contact sheet: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("write contact sheet: %w", err)
	}
	return b.Bytes(), nil
}

// Markdown is the contact sheet for places that show no pages of their own; its
// pictures are the files that Draw returned. Tests that passed without any
// difference are only counted.
func (r Report) Markdown() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# comfyrun test: %s\n\n%s, %.1f s\n", r.Summary(), escapeCell(r.Engine), r.Seconds)
	header := "\n| test | result | before | after | difference |\n|---|---|---|---|---|\n"
	same, unmoved := 0, r.Count(Unmoved)
	for _, result := range r.Ordered() {
		if result.Status == Unmoved {
			continue
		}
		if result.Status == Passed && !slices.ContainsFunc(result.Pictures, func(p Picture) bool { return !p.Difference.Identical() }) {
			same++
			continue
		}
		b.WriteString(header)
		header = ""
		result.markdown(&b)
	}
	if same > 0 {
		fmt.Fprintf(&b, "\n%d without any difference.\n", same)
	}
	if unmoved > 0 {
		fmt.Fprintf(&b, "\n%d not run: nothing that they depend on changed.\n", unmoved)
	}
	return []byte(b.String())
}

func (r Result) markdown(b *strings.Builder) {
	status := fmt.Sprintf("**%s**", r.Status)
	if len(r.Pictures) == 0 {
		fmt.Fprintf(b, "| %s | %s | | | |\n", escapeCell(r.Name), escapeCell(joined(nonEmpty(status, r.Text()))))
		return
	}
	for _, p := range r.Pictures {
		name, text := r.Name, status
		if len(r.Pictures) > 1 {
			name += " " + p.Label()
		}
		if r.Status != NoGolden && r.Status != Updated {
			text += ": " + p.Text()
		}
		difference := p.views.Difference.markdown()
		if p.views.Gain > 0 {
			difference += fmt.Sprintf("<br>×%d", p.views.Gain)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", escapeCell(name), escapeCell(text), p.views.Before.markdown(), p.views.After.markdown(), difference)
	}
}

func (v view) markdown() string {
	if v.File == "" {
		return ""
	}
	return "![](" + v.File + ")"
}

// escapeCell keeps a text inside of a cell of a Markdown table.
func escapeCell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "&", "&amp;").Replace(s)
}
