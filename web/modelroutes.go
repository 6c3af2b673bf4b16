package web

import (
	"net/http"
	"os"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/models"
)

func (s *Server) modelRoutes() {
	api := s.api()
	api.get("/embeddings", read, s.embeddings)
	api.get("/models", read, s.modelFolders)
	api.get("/models/:folder", read, s.modelNames)
	api.get("/experiment/models", read, s.modelPaths)
	api.get("/experiment/models/:folder", read, s.modelFiles)
	api.get("/experiment/models/preview/:folder/:index/*filename", read, s.modelPreview)
	s.bare().get("/internal/folder_paths", read, s.folderPaths)
}

// embeddings lists the embeddings without their extensions.
func (s *Server) embeddings(c *gin.Context) {
	names := []string{}
	for _, name := range s.Models.Names("embeddings") {
		stem, _ := splitExt(name)
		names = append(names, stem)
	}
	s.answerJSON(c, http.StatusOK, names)
}

func (s *Server) modelFolders(c *gin.Context) { s.answerJSON(c, http.StatusOK, s.Models.Keys()) }

// modelNames lists a folder. The keys of old versions are none here.
func (s *Server) modelNames(c *gin.Context) {
	key := c.Param("folder")
	if !slices.Contains(s.Models.Keys(), key) {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	s.answerJSON(c, http.StatusOK, s.Models.Names(key))
}

// shownFolders are the folders that hold models.
func (s *Server) shownFolders() []string {
	return slices.DeleteFunc(s.Models.Keys(), func(key string) bool { return key == "configs" || key == "custom_nodes" })
}

// modelPaths lists the folders with their directories.
func (s *Server) modelPaths(c *gin.Context) {
	type folder struct {
		Name    string   `json:"name"`
		Folders []string `json:"folders"`
	}
	folders := []folder{}
	for _, key := range s.shownFolders() {
		folders = append(folders, folder{key, s.Models.Paths(key)})
	}
	s.answerJSON(c, http.StatusOK, folders)
}

// folderPaths lists every folder's directories as one object, in order.
func (s *Server) folderPaths(c *gin.Context) {
	var all object
	for _, key := range s.Models.Keys() {
		paths, err := asciiJSON(s.Models.Paths(key))
		if err != nil {
			s.answerTrouble(c, err)
			return
		}
		all = append(all, member{key, paths})
	}
	s.answerJSON(c, http.StatusOK, all)
}

// modelFile is what the editor's model library shows of a file.
type modelFile struct {
	Name     string  `json:"name"`
	Index    int     `json:"pathIndex"`
	Modified seconds `json:"modified"`
	Created  seconds `json:"created"`
	Size     int64   `json:"size"`
}

// modelFiles lists the model files of a folder, hidden ones left out.
func (s *Server) modelFiles(c *gin.Context) {
	key := c.Param("folder")
	if !slices.Contains(s.Models.Keys(), key) {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	files := []modelFile{}
	for _, f := range s.Models.Files(key) {
		info, err := os.Stat(f.Path)
		if err != nil || hidden(f.Name) || !models.IsModel(f.Name) {
			continue
		}
		files = append(files, modelFile{f.Name, f.Index, seconds(info.ModTime().UnixNano()), created(info), info.Size()})
	}
	s.answerJSON(c, http.StatusOK, files)
}

// modelPreview shows the picture that stands beside a model, or in it.
func (s *Server) modelPreview(c *gin.Context) {
	key := c.Param("folder")
	paths := s.Models.Paths(key)
	if len(paths) == 0 {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	index, err := strconv.Atoi(c.Param("index"))
	if err != nil || index < 0 || index >= len(paths) {
		s.answerTrouble(c, errIndex)
		return
	}
	p, err := s.preview(c, paths[index], c.Param("filename"))
	if err != nil {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	s.answerPreview(c, p)
}

func (s *Server) answerPreview(c *gin.Context, p imagefile.Picture) {
	if err := answerPicture(c, rendition{contentType: "image/webp"}, p); err != nil {
		s.answerTrouble(c, err)
	}
}

// viewMetadata shows what a safetensors file says about itself.
func (s *Server) viewMetadata(c *gin.Context) {
	file, err := s.Models.Path(c.Param("folder"), c.Query("filename"))
	if err != nil {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	metadata, err := readMetadata(file)
	if err != nil {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	s.answerJSON(c, http.StatusOK, metadata)
}
