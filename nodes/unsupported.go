package nodes

import "strings"

// Unsupported says why a class of ComfyUI's is not in the catalogue, in words
// that follow "is not supported:". known is false for classes that ComfyUI
// itself does not have, as those of custom nodes. Asking about a class that is
// in the catalogue makes no sense.
func Unsupported(class string) (reason string, known bool) {
	for _, f := range families() {
		for _, name := range strings.Fields(f.classes) {
			if name == class {
				return f.reason, true
			}
		}
	}
	for _, prefix := range strings.Fields(partnerPrefixes) {
		if strings.HasPrefix(class, prefix) {
			return reasonPartner, true
		}
	}
	if strings.HasSuffix(class, "Api") {
		return reasonPartner, true
	}
	return "", false
}

// family is classes that are left out for one reason.
type family struct{ reason, classes string }

const reasonPartner = "runs on a paid service, not on this machine"

// partnerPrefixes begin the classes of nodes that call services of partners.
const partnerPrefixes = `ByteDance FluxKontextMax FluxKontextPro FluxPro Gemini Ideogram Kling Luma Minimax Moonvalley OpenAI Pika
Pixverse Recraft Rodin3D Runway Stability Tripo Veo Vidu`

// notBuilt is the reason why parts of an architecture are left out.
func notBuilt(what string) string { return "belongs to " + what + ", which comfyrun does not build" }

// families lists the classes of ComfyUI 0.3.64 that are left out, with the
// reason why. What is called undocumented here is written down nowhere but in
// ComfyUI's source, which comfyrun is not made from.
func families() []family {
	return append(unbuilt(), outOfScope()...)
}

// unbuilt are the classes that belong to models which comfyrun does not build.
func unbuilt() []family {
	return []family{
		{notBuilt("video models"), `
			ConditioningSetAreaPercentageVideo CosmosImageToVideoLatent CosmosPredict2ImageToVideoLatent
			EmptyCosmosLatentVideo EmptyHunyuanLatentVideo EmptyLTXVLatentVideo EmptyMochiLatentVideo
			HunyuanImageToVideo ImageOnlyCheckpointLoader ImageOnlyCheckpointSave LTXVAddGuide LTXVConditioning
			LTXVCropGuides LTXVImgToVideo ModelMergeCosmos14B ModelMergeCosmos7B ModelMergeCosmosPredict2_14B
			ModelMergeCosmosPredict2_2B ModelMergeLTXV ModelMergeMochiPreview ModelMergeWAN2_1 SVD_img2vid_Conditioning
			TextEncodeHunyuanVideo_ImageToVideo TrimVideoLatent Wan22FunControlToVideo Wan22ImageToVideoLatent
			WanAnimateToVideo WanCameraEmbedding WanCameraImageToVideo WanContextWindowsManual WanFirstLastFrameToVideo
			WanFunControlToVideo WanFunInpaintToVideo WanHuMoImageToVideo WanImageToVideo WanPhantomSubjectToVideo
			WanSoundImageToVideo WanSoundImageToVideoExtend WanTrackToVideo WanVaceToVideo`},
		{notBuilt("audio models"), "EmptyAceStepLatentAudio TextEncodeAceStepAudio"},
		{notBuilt("models of 3-D objects and views"), `
			EmptyLatentHunyuan3Dv2 Hunyuan3Dv2Conditioning Hunyuan3Dv2ConditioningMultiView SV3D_Conditioning
			StableZero123_Conditioning StableZero123_Conditioning_Batched VAEDecodeHunyuan3D`},
		{notBuilt("AuraFlow"), "ModelMergeAuraflow"},
		{notBuilt("Chroma Radiance"), "ChromaRadianceOptions EmptyChromaRadianceLatentImage"},
		{notBuilt("HiDream"), "CLIPTextEncodeHiDream QuadrupleCLIPLoader"},
		{notBuilt("Hunyuan's picture models"), "CLIPTextEncodeHunyuanDiT EmptyHunyuanImageLatent HunyuanRefinerLatent"},
		{notBuilt("Lotus"), "LotusConditioning"},
		{notBuilt("Lumina 2"), "CLIPTextEncodeLumina2"},
		{notBuilt("PhotoMaker"), "PhotoMakerEncode PhotoMakerLoader"},
		{notBuilt("PixArt"), "CLIPTextEncodePixArtAlpha"},
		{notBuilt("Qwen-Image"), `
			ModelMergeQwenImage QwenImageDiffsynthControlnet TextEncodeQwenImageEdit TextEncodeQwenImageEditPlus`},
		{notBuilt("Stable Cascade"), `
			StableCascade_EmptyLatentImage StableCascade_StageB_Conditioning StableCascade_StageC_VAEEncode
			StableCascade_SuperResolutionControlnet`},
		{notBuilt("the upscaler Stable Diffusion x4"), "SD_4XUpscale_Conditioning"},
		{notBuilt("models that edit pictures (Flux Kontext, OmniGen2, Qwen-Image-Edit)"), "ReferenceLatent"},
		{notBuilt("extra parts of Flux and Qwen-Image (model patches)"), "ModelPatchLoader USOStyleReference"},
		{notBuilt("GLIGEN (layers that place things)"), "GLIGENLoader GLIGENTextBoxApply"},
		{notBuilt("hypernetworks"), "HypernetworkLoader"},
		{notBuilt("CLIP's encoder of pictures"), "CLIPVisionEncode CLIPVisionLoader"},
		{notBuilt("unCLIP models, and the encoder of pictures in them"), "unCLIPCheckpointLoader unCLIPConditioning"},
		{notBuilt("style models, and the encoder of pictures that they read"), "StyleModelApply StyleModelLoader"},
		{notBuilt("Stable Diffusion 3") + " yet", `
			CLIPTextEncodeSD3 ControlNetApplySD3 ControlNetInpaintingAliMamaApply ModelMergeSD35_Large ModelMergeSD3_2B
			SkipLayerGuidanceDiT SkipLayerGuidanceDiTSimple SkipLayerGuidanceSD3 TripleCLIPLoader`},
		{notBuilt("Flux") + " yet", "CLIPTextEncodeFlux ModelMergeFlux1"},
	}
}

// outOfScope are the classes that are left out for what they do.
func outOfScope() []family {
	return []family{
		{"comfyrun neither reads nor writes video files", `
			CreateVideo GetVideoComponents LTXVPreprocess LoadVideo SaveVideo SaveWEBM`},
		{"works on 3-D objects, not on pictures", `
			Load3D Load3DAnimation Preview3D Preview3DAnimation SaveGLB VoxelToMesh VoxelToMeshBasic`},
		{"trains models; comfyrun only runs them", `
			LoadImageSetFromFolderNode LoadImageTextSetFromFolderNode LoraModelLoader LossGraphNode SaveLoRANode
			TrainLoraNode`},
		{"changes weights or prompts between the steps of a run (hooks), by rules that are not documented", `
			CombineHooks2 CombineHooks4 CombineHooks8 CreateHookKeyframe CreateHookKeyframesFromFloats
			CreateHookKeyframesInterpolated CreateHookLora CreateHookLoraModelOnly CreateHookModelAsLora
			CreateHookModelAsLoraModelOnly SetClipHooks SetHookKeyframes`},
		{"leaves out work inside the network at places drawn at random, in an order that is not documented", `
			HyperTile TomePatchModel`},
		{"leaves out steps of the network by an estimate that is not documented", "EasyCache LazyCache"},
		{"cuts a batch into windows and blends them by rules that are not documented", "ContextWindowsManual"},
		{"takes its noise levels from a table that is not documented", "GITSScheduler"},
		{"scales the latent between steps by rules that are not documented", "SamplerLCMUpscale"},
		{"chooses the number type that PyTorch computes in; comfyrun computes in float32", "ModelComputeDtype"},
		{"compiles a PyTorch model; ONNX Runtime optimises every model by itself", "TorchCompileModel"},
		{"takes its picture from a camera that only a page in a browser can open; LoadImage takes a file", `
			WebcamCapture`},
		{"saves SVG pictures, which only nodes of paid services make", "SaveSVGNode"},
		{"reads a folder as the library diffusers writes it; CheckpointLoaderSimple reads a checkpoint file", `
			DiffusersLoader`},
		{"deprecated: reads a configuration beside a checkpoint; CheckpointLoaderSimple does without", `
			CheckpointLoader`},
	}
}
