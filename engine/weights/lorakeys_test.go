package weights

import "testing"

// TestUNetKeys checks the spellings of one weight of each place in a UNet.
func TestUNetKeys(t *testing.T) {
	keys := UNetKeys([]string{
		"input_blocks.0.0.weight", "input_blocks.0.0.bias",
		"input_blocks.1.0.in_layers.2.weight", "input_blocks.1.1.proj_in.weight",
		"input_blocks.2.0.in_layers.2.weight", "input_blocks.2.1.transformer_blocks.0.attn1.to_out.0.weight",
		"input_blocks.3.0.op.weight", "input_blocks.4.0.skip_connection.weight", "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight",
		"middle_block.0.emb_layers.1.weight", "middle_block.1.transformer_blocks.0.ff.net.0.proj.weight", "middle_block.2.out_layers.3.weight",
		"output_blocks.0.0.in_layers.0.weight", "output_blocks.1.0.in_layers.2.weight", "output_blocks.1.1.conv.weight",
		"output_blocks.2.0.in_layers.2.weight", "output_blocks.2.1.norm.weight", "output_blocks.2.2.conv.weight",
		"output_blocks.3.1.proj_out.weight", "output_blocks.3.0.in_layers.2.weight",
		"out.0.weight", "out.2.weight", "time_embed.0.weight", "label_emb.0.2.weight",
	})
	for base, weight := range map[string]string{
		"lora_unet_conv_in":                                                           "input_blocks.0.0.weight",
		"diffusion_model.input_blocks.0.0":                                            "input_blocks.0.0.weight",
		"diffusion_model.input_blocks.0.0.bias":                                       "input_blocks.0.0.bias",
		"lora_unet_input_blocks_0_0":                                                  "input_blocks.0.0.weight",
		"lora_unet_down_blocks_0_resnets_0_conv1":                                     "input_blocks.1.0.in_layers.2.weight",
		"lora_unet_down_blocks_0_attentions_0_proj_in":                                "input_blocks.1.1.proj_in.weight",
		"lycoris_down_blocks_0_resnets_1_conv1":                                       "input_blocks.2.0.in_layers.2.weight",
		"lora_unet_down_blocks_0_downsamplers_0_conv":                                 "input_blocks.3.0.op.weight",
		"lora_unet_down_blocks_1_resnets_0_conv_shortcut":                             "input_blocks.4.0.skip_connection.weight",
		"unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_out": "input_blocks.2.1.transformer_blocks.0.attn1.to_out.0.weight",
		"down_blocks.1.attentions.0.transformer_blocks.3.attn2.processor.to_k":        "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight",
		"lora_unet_down_blocks_1_attentions_0_transformer_blocks_3_attn2_to_k":        "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight",
		"lora_unet_mid_block_resnets_0_time_emb_proj":                                 "middle_block.0.emb_layers.1.weight",
		"lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj":         "middle_block.1.transformer_blocks.0.ff.net.0.proj.weight",
		"lora_unet_mid_block_resnets_1_conv2":                                         "middle_block.2.out_layers.3.weight",
		"lora_unet_up_blocks_0_resnets_0_norm1":                                       "output_blocks.0.0.in_layers.0.weight",
		"lora_unet_up_blocks_0_upsamplers_0_conv":                                     "output_blocks.1.1.conv.weight",
		"lora_unet_up_blocks_1_attentions_0_norm":                                     "output_blocks.2.1.norm.weight",
		"lora_unet_up_blocks_1_upsamplers_0_conv":                                     "output_blocks.2.2.conv.weight",
		"lora_unet_up_blocks_2_attentions_0_proj_out":                                 "output_blocks.3.1.proj_out.weight",
		"lora_unet_conv_norm_out":                                                     "out.0.weight",
		"lora_unet_conv_out":                                                          "out.2.weight",
		"lora_unet_time_embedding_linear_1":                                           "time_embed.0.weight",
		"lora_unet_add_embedding_linear_2":                                            "label_emb.0.2.weight",
	} {
		if keys[base].Weight != weight {
			t.Errorf("%s means %q, want %q", base, keys[base].Weight, weight)
		}
	}
}

// TestCLIPKeys checks which tower each name means.
func TestCLIPKeys(t *testing.T) {
	const fc1, out = "text_model.encoder.layers.3.mlp.fc1.weight", "text_model.encoder.layers.0.self_attn.out_proj.weight"
	names := []string{fc1, out, "text_model.encoder.layers.0.layer_norm1.weight", "text_projection.weight", fc1[:len(fc1)-6] + "bias"}
	for _, c := range []struct {
		tower Tower
		want  map[string]string
	}{
		{Tower{"clip_l", false}, map[string]string{
			"lora_te_text_model_encoder_layers_3_mlp_fc1":                          fc1,
			"lora_te1_text_model_encoder_layers_0_self_attn_out_proj":              out,
			"text_encoder.text_model.encoder.layers.3.mlp.fc1":                     fc1,
			"text_encoders.clip_l.transformer.text_model.encoder.layers.3.mlp.fc1": fc1,
			"lora_te1_text_projection":                                             "text_projection.weight",
			"lora_te2_text_model_encoder_layers_3_mlp_fc1":                         "",
			"lora_te1_text_model_encoder_layers_0_layer_norm1":                     "",
		}},
		{Tower{"clip_g", true}, map[string]string{
			"lora_te2_text_model_encoder_layers_3_mlp_fc1":       fc1,
			"text_encoder_2.text_model.encoder.layers.3.mlp.fc1": fc1,
			"lora_te2_text_projection":                           "text_projection.weight",
			"lora_te_text_model_encoder_layers_3_mlp_fc1":        "",
		}},
		{Tower{"clip_g", false}, map[string]string{
			"lora_te_text_model_encoder_layers_3_mlp_fc1":      fc1,
			"text_encoder.text_model.encoder.layers.3.mlp.fc1": fc1,
		}},
	} {
		keys := CLIPKeys(names, c.tower)
		for base, weight := range c.want {
			if keys[base].Weight != weight {
				t.Errorf("%v: %s means %q, want %q", c.tower, base, keys[base].Weight, weight)
			}
		}
	}

	const joint = "text_model.encoder.layers.1.self_attn.in_proj.weight"
	keys := CLIPKeys([]string{joint}, Tower{"clip_g", true})
	if got, want := keys["lora_te2_text_model_encoder_layers_1_self_attn_v_proj"], (Target{joint, 2, 3}); got != want {
		t.Errorf("the values are %v, want %v", got, want)
	}
}
