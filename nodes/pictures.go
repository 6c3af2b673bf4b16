package nodes

import "github.com/comfyrun/comfyrun/engine"

// pictureKinds are the choice inputs of addPictures.
func pictureKinds(d Dirs) []engine.Kind {
	var out []engine.Kind
	for _, kinds := range [][]engine.Kind{fileKinds(d), scaleKinds(), imageKinds(), maskKinds(), latentKinds(), latentFileKinds(d), filterKinds(), animationKinds(), stringKinds()} {
		out = append(out, kinds...)
	}
	return out
}

// addPictures declares the families that need no model: picture files, images,
// masks and primitive values.
func addPictures(c *engine.Catalog, d Dirs) {
	addImageFiles(c, d)
	addImageScaling(c)
	addImages(c)
	addImageFilters(c)
	addAnimations(c, d)
	addMasks(c)
	addPrimitives(c)
	addStringTools(c)
	addPreviews(c)
}
