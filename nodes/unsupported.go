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

const (
	reasonNotYet  = "not yet"
	reasonPartner = "runs on a paid service, not on this machine"
)

// partnerPrefixes begin the classes of nodes that call services of partners.
const partnerPrefixes = `ByteDance FluxKontextMax FluxKontextPro FluxPro Gemini Ideogram Kling Luma Minimax Moonvalley OpenAI Pika
Pixverse Recraft Rodin3D Runway Stability Tripo Veo Vidu`

// families lists classes of ComfyUI 0.3.64 with the reason why they are left
// out. The reason has no meaning for a class that is in the catalogue by now.
func families() []family {
	return []family{
		{"video models", `ConditioningSetAreaPercentageVideo CosmosImageToVideoLatent CosmosPredict2ImageToVideoLatent CreateVideo
			EmptyCosmosLatentVideo EmptyHunyuanLatentVideo EmptyLTXVLatentVideo EmptyMochiLatentVideo GetVideoComponents
			HunyuanImageToVideo ImageOnlyCheckpointLoader ImageOnlyCheckpointSave LTXVAddGuide LTXVConditioning LTXVCropGuides
			LTXVImgToVideo LTXVPreprocess LTXVScheduler LoadVideo ModelMergeCosmos14B ModelMergeCosmos7B
			ModelMergeCosmosPredict2_14B ModelMergeCosmosPredict2_2B ModelMergeLTXV ModelMergeMochiPreview ModelMergeWAN2_1
			ModelSamplingLTXV SVD_img2vid_Conditioning SaveVideo SaveWEBM TextEncodeHunyuanVideo_ImageToVideo TrimVideoLatent
			UNetTemporalAttentionMultiply Wan22FunControlToVideo
			Wan22ImageToVideoLatent WanAnimateToVideo WanCameraEmbedding WanCameraImageToVideo WanContextWindowsManual
			WanFirstLastFrameToVideo WanFunControlToVideo WanFunInpaintToVideo WanHuMoImageToVideo WanImageToVideo
			WanPhantomSubjectToVideo WanSoundImageToVideo WanSoundImageToVideoExtend WanTrackToVideo WanVaceToVideo`},
		{"audio", `EmptyAceStepLatentAudio TextEncodeAceStepAudio`},
		{"3-D models and views", `EmptyLatentHunyuan3Dv2 Hunyuan3Dv2Conditioning Hunyuan3Dv2ConditioningMultiView Load3D
			Load3DAnimation Preview3D Preview3DAnimation SV3D_Conditioning SaveGLB StableZero123_Conditioning
			StableZero123_Conditioning_Batched VAEDecodeHunyuan3D VoxelToMesh VoxelToMeshBasic`},
		{"training", `LoadImageSetFromFolderNode LoadImageTextSetFromFolderNode LoraModelLoader LossGraphNode SaveLoRANode
			TrainLoraNode`},
		{"writes model files", `CLIPSave CheckpointSave LoraSave ModelSave VAESave`},
		{"an architecture that comfyrun does not build", `CLIPTextEncodeHiDream CLIPTextEncodeHunyuanDiT CLIPTextEncodeLumina2
			CLIPTextEncodePixArtAlpha ChromaRadianceOptions ControlNetInpaintingAliMamaApply EmptyChromaRadianceLatentImage
			EmptyHunyuanImageLatent GLIGENLoader GLIGENTextBoxApply HunyuanRefinerLatent HypernetworkLoader LotusConditioning
			ModelMergeAuraflow ModelMergeQwenImage ModelPatchLoader ModelSamplingStableCascade
			PhotoMakerEncode PhotoMakerLoader QuadrupleCLIPLoader QwenImageDiffsynthControlnet ReferenceLatent
			StableCascade_EmptyLatentImage StableCascade_StageB_Conditioning StableCascade_StageC_VAEEncode
			StableCascade_SuperResolutionControlnet StyleModelApply StyleModelLoader T5TokenizerOptions
			TextEncodeQwenImageEdit TextEncodeQwenImageEditPlus USOStyleReference CLIPVisionEncode CLIPVisionLoader
			unCLIPCheckpointLoader unCLIPConditioning`},
		{"changes weights or prompts during a run (hooks)", `CombineHooks2 CombineHooks4 CombineHooks8
			ConditioningSetDefaultCombine ConditioningSetProperties ConditioningSetPropertiesAndCombine
			ConditioningTimestepsRange CreateHookKeyframe CreateHookKeyframesFromFloats CreateHookKeyframesInterpolated
			CreateHookLora CreateHookLoraModelOnly CreateHookModelAsLora CreateHookModelAsLoraModelOnly
			PairConditioningCombine PairConditioningSetDefaultCombine PairConditioningSetProperties
			PairConditioningSetPropertiesAndCombine SetClipHooks SetHookKeyframes`},
		{"is about PyTorch itself", `ModelComputeDtype TorchCompileModel`},
		{"wants a camera in a browser", `WebcamCapture`},
		{"SVG pictures, which only paid services make", `SaveSVGNode`},
		{"reads folders of diffusers instead of files", `DiffusersLoader`},
		{"deprecated: a configuration beside a checkpoint", `CheckpointLoader`},
		{"saves time inside the network at places drawn at random", `HyperTile TomePatchModel`},
		{reasonNotYet, `APG CFGNorm CFGZeroStar CLIPAttentionMultiply CLIPTextEncodeControlnet CLIPTextEncodeFlux
			CLIPTextEncodeSD3 ContextWindowsManual ControlNetApplySD3 DiffControlNetLoader EasyCache EmptySD3LatentImage
			FluxDisableGuidance FluxGuidance FluxKontextImageScale FluxKontextMultiReferenceLatentMethod FreSca
			GITSScheduler InstructPixToPixConditioning LatentApplyOperationCFG LazyCache Mahiro ModelMergeFlux1
			ModelMergeSD1 ModelMergeSD2 ModelMergeSD35_Large ModelMergeSD3_2B ModelMergeSDXL OptimalStepsScheduler
			RenormCFG SD_4XUpscale_Conditioning SamplerLCMUpscale
			SkipLayerGuidanceDiT SkipLayerGuidanceDiTSimple SkipLayerGuidanceSD3 TCFG
			TripleCLIPLoader`},
	}
}
