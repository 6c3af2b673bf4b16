package web

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/gin-gonic/gin"
)

const (
	// uploadMemory is how much of a form is held in memory; longer files wait in the system's temporary folder.
	uploadMemory = 4 << 20
	// maxNames is how many numbered names are tried for a file whose name is taken.
	maxNames = 10000
)

// upload is a file that a client sends, and where it wants it.
type upload struct {
	form      *multipart.Form
	file      multipart.File
	name      string // as the client wrote it, with folders perhaps
	subfolder string
	kind      string
	overwrite bool
}

// uploadImage answers POST /upload/image.
func (s *Server) uploadImage(c *gin.Context) {
	s.upload(c, func(u upload) (io.Reader, error) { return u.file, nil })
}

// upload stores a file of a form. Content makes what is stored; nil means that there is nothing to store and that the
// client need not know.
func (s *Server) upload(c *gin.Context, content func(upload) (io.Reader, error)) {
	u, err := readUpload(c.Request)
	if err != nil {
		s.answerFileError(c, err)
		return
	}
	defer u.close()
	name, err := s.store(u, content)
	if err != nil {
		s.answerFileError(c, err)
		return
	}
	s.answerJSON(c, http.StatusOK, struct {
		Name      string `json:"name"`
		Subfolder string `json:"subfolder"`
		Type      string `json:"type"`
	}{name, u.subfolder, u.kind})
}

// readUpload reads the form. The caller closes the upload.
func readUpload(r *http.Request) (upload, error) {
	if err := r.ParseMultipartForm(uploadMemory); err != nil {
		return upload{}, fileRefusal(http.StatusBadRequest)
	}
	u := upload{form: r.MultipartForm}
	u.subfolder = u.value("subfolder")
	u.kind = cmp.Or(u.value("type"), inputFolder)
	u.overwrite = u.value("overwrite") == "true" || u.value("overwrite") == "1"
	err := u.open()
	if err != nil {
		u.close()
	}
	return u, err
}

// value is a plain field of the form.
func (u upload) value(name string) string {
	if values := u.form.Value[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func (u *upload) open() error {
	headers := u.form.File["image"]
	if len(headers) == 0 {
		if _, ok := u.form.Value["image"]; ok {
			return errors.New("read upload: the image is no file")
		}
		return fileRefusal(http.StatusBadRequest)
	}
	// The standard library's name has lost its folders, and with them whether it tried to leave one.
	_, params, err := mime.ParseMediaType(headers[0].Header.Get("Content-Disposition"))
	if err != nil || params["filename"] == "" {
		return fileRefusal(http.StatusBadRequest)
	}
	u.name = params["filename"]
	if !fileType(u.kind) {
		return fmt.Errorf("read upload: unknown type %q", u.kind)
	}
	u.file, err = headers[0].Open()
	return err
}

func (u upload) close() {
	if u.file != nil {
		u.file.Close()
	}
	u.form.RemoveAll()
}

// store writes an upload and returns its name, which gets a number when another file has it. Uploads are stored one at a
// time, so that two of the same name do not meet.
func (s *Server) store(u upload, content func(upload) (io.Reader, error)) (string, error) {
	root, err := s.folders[u.kind].open()
	if err != nil {
		return "", err
	}
	last := u.name[strings.LastIndexByte(u.name, '/')+1:]
	if _, err := inside(u.subfolder, u.name); err != nil || last == "" || last == "." || last == ".." {
		return "", fileRefusal(http.StatusBadRequest)
	}
	s.uploads.Lock()
	defer s.uploads.Unlock()
	name, same, err := u.freeName(root)
	if err != nil || same {
		return name, err
	}
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	data, err := content(u)
	if err != nil || data == nil {
		return name, err
	}
	target, err := inside(u.subfolder, name)
	if err != nil {
		return "", fileRefusal(http.StatusBadRequest)
	}
	if err := replaceFile(root, target, data); err != nil {
		return "", writeRefusal(err)
	}
	return name, nil
}

// writeRefusal is the answer to a file that the system does not take: the client's fault, since the name is its own, unless
// it is the machine's.
func writeRefusal(err error) error {
	machine := []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.EACCES}
	if slices.ContainsFunc(machine, func(m error) bool { return errors.Is(err, m) }) {
		return err
	}
	return fileRefusal(http.StatusBadRequest)
}

// freeName finds the name to store under: the own one, or "stem (1).ext" and so on. Same says that the file of that name
// has this content already.
func (u upload) freeName(root *os.Root) (name string, same bool, err error) {
	if u.overwrite {
		return u.name, false, nil
	}
	stem, ext := splitExt(u.name)
	for i := range maxNames {
		name := u.name
		if i > 0 {
			name = fmt.Sprintf("%s (%d)%s", stem, i, ext)
		}
		target, err := inside(u.subfolder, name)
		if err != nil {
			return "", false, fileRefusal(http.StatusBadRequest)
		}
		if !exists(root, target) {
			return name, false, nil
		}
		if u.equals(root, target) {
			return name, true, nil
		}
	}
	return "", false, fileRefusal(http.StatusBadRequest)
}

// equals compares the upload with a stored file.
func (u upload) equals(root *os.Root, name string) bool {
	file, info, err := openFile(root, name)
	if err != nil {
		return false
	}
	defer file.Close()
	size, err := u.file.Seek(0, io.SeekEnd)
	if err != nil || size != info.Size() {
		return false
	}
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return false
	}
	return sameContent(u.file, file)
}

func sameContent(a, b io.Reader) bool {
	pa, pb := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, errA := io.ReadFull(a, pa)
		nb, errB := io.ReadFull(b, pb)
		if !bytes.Equal(pa[:na], pb[:nb]) {
			return false
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil
		}
	}
}

// splitExt splits a name as Python's splitext does: leading dots begin no extension.
func splitExt(name string) (stem, ext string) {
	ext = path.Ext(strings.TrimLeft(path.Base(name), "."))
	return strings.TrimSuffix(name, ext), ext
}
