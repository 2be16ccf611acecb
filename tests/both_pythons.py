"""What runs on each Python that is supported: `make test-313` runs these tests and no others.

On Python 3.13 TensorFlow, Keras' backend, TensorBoard and the serving API are of other versions,
and tensorflow-io is missing. Here is what hangs on that, or on Python itself. What is left out is
arithmetic that `codec` and `training` below stand on too, words, files and settings.
"""

ALL = ()  # of a file's tests but the slow ones

# What users rely on -> file -> its tests, by the names of their functions.
ON_BOTH = {
    "payloads of earlier versions": {
        "test_compatibility": ALL,
        "test_latent": ("test_golden_payload",),
        "test_symbols": ("test_the_bytes_are_those_of_the_text",),
        "test_payload": (
            "test_packing_gives_the_golden_bytes",
            "test_checksum_is_farmhash64",
            "test_tensorflow_and_pillow_read_the_payload_alike",
            "test_readers_agree",
            "test_what_verify_says",
        ),
    },
    "packing: the same bytes everywhere": {
        "test_packing": ALL,
        "test_packing_coder": ALL,
        "test_jpeg_coefficients": ("test_payloads", "test_what_pillow_writes"),
    },
    "any bytes: what a network trained on the way gives, again": {
        "test_any_bytes": (
            "test_a_fresh_process_gives_the_bytes_back",
            "test_other_floats_and_changed_bits_are_refused",
        ),
    },
    "codec: eagerly, in graphs, in tf.data, to targets, in tiles": {
        "test_codec": (
            "test_arrays_give_bytes_and_arrays",
            "test_tensors_give_tensors_of_the_same_values",
            "test_any_size_comes_back",
            "test_batch_equals_one_by_one",
            "test_in_a_tf_data_pipeline",
            "test_pipeline_of_unknown_sizes_and_channels",
            "test_encode_refuses_a_quality_in_a_graph",
            "test_decode_refuses",
            "test_decode_refuses_in_a_graph_with_the_same_words",
            "test_an_exported_model_keeps_its_weights_once",
            "test_a_new_version_is_loaded_and_a_training_run_too",
            "test_default_preview_looks_like_the_picture",
            "test_sides_end_where_jpeg_s_end",
            "test_a_picture_is_a_path_an_image_of_pillow_or_an_array",
            "test_an_array_that_cannot_be_is_refused_with_the_line_that_mends_it",
            "test_a_tensor_and_a_picture_of_pillow_have_their_own_cure",
        ),
        "test_multi_scale": (
            "test_it_is_saved_and_loaded_whole",
            "test_the_quality_chooses_the_scale",
            "test_a_batch_mixes_scales",
        ),
        "test_targets": (
            "test_a_size_is_met_by_the_highest_quality_that_fits",
            "test_a_psnr_is_met_by_the_lowest_quality_that_reaches_it",
            "test_targets_out_of_reach_say_what_can_be_had",
            "test_the_target_s_search_works_in_a_graph",
        ),
        "test_jpeg": (
            "test_bytes_and_pixels_are_pillows",
            "test_all_qualities_at_once_in_a_dataset",
            "test_truncated_data_raises",
        ),
        "test_pair": ("test_tiles_change_nothing",),
        "test_effort": ("test_each_picture_gets_cheaper",),
        "test_attempts": ALL,
        "test_functions": ALL,
        "test_data_records": ("test_images_become_payloads_and_come_back",),
    },
    "exported models": {
        "test_export_onnx": ("test_any_size_is_restored_as_by_tensorflow",),
        "test_export": (
            "test_signatures_are_named_for_serving",
            "test_a_fresh_process_gives_the_bytes_that_python_gives",
            "test_stock_ops_only",
            "test_the_folder_loads_as_a_codec",
        ),
        "test_signatures": ("test_each_format_is_read",),
        "test_c_api": ("test_the_graph_is_light",),
    },
    "each command": {
        "test_cli": (
            "test_help_lists_every_verb_and_only_those",
            "test_help_of_a_verb_lists_its_flags_only_and_fits_a_terminal",
            "test_bad_words_are_one_line_before_any_work",
            "test_flags_are_spelled_as_elsewhere",
            "test_an_error_of_tensorflow_is_one_line_too",
            "test_train_passes_every_setting_on",
            "test_export_offers_the_arguments_of_export",
            "test_files_that_are_no_images_fail_alone_and_say_why",
            "test_files_that_are_no_payloads_fail_alone_and_say_why",
            "test_unusual_images_come_back_in_their_size_and_upright",
            "test_info_is_one_line_for_each_payload",
            "test_help_and_info_do_not_start_tensorflow",
            "test_a_users_terminal_shows_no_noise_of_tensorflow",
        ),
        "test_cli_folders": ("test_what_libraries_print_of_damaged_files_stays_off_the_terminal",),
        "test_cli_streams": ("test_a_pipe_there_and_back_gives_what_files_give",),
        "test_cli_remote": (  # `serve`, and the client by REST and gRPC
            "test_a_server_gives_what_the_model_gives",
        ),
        "test_beam": (  # `batch`
            "test_files_there_and_back",
            "test_options_of_runners_are_known",
        ),
        "test_benchmark": ("test_prints_tables",),
        "test_benchmark_codecs": ("test_there_and_back", "test_libraries_are_those_at_work"),
        "test_benchmark_plots": ("test_everything_is_said",),
        "test_demo": ("test_with_the_default_model",),
        "test_house": ("test_importing_does_not_start_tensorflow",),
    },
    "readers of pictures, and those in graphs without tensorflow-io": {
        "test_images": ALL,
        "test_images_in_graph": ALL,
        "test_hostile": ALL,
        "test_metadata": ALL,
    },
    "training: a run, its end, its logs, and going on with it": {
        "test_training": (
            "test_the_trained_model_is_written_and_loads",
            "test_the_configuration_is_saved",
            "test_tensorboard_has_the_losses_of_each_phase",
            "test_tensorboard_has_a_strip_for_each_held_out_image",
            "test_a_killed_run_resumes_exactly",
            "test_a_checkpoint_holds_all_that_a_run_depends_on",
            "test_two_replicas_give_the_weights_of_one",
        ),
        "test_optimizers": ALL,
        "test_models": (
            "test_a_saved_model_computes_the_same",
            "test_weights_alone_can_be_saved_and_loaded",
            "test_configuration_round_trip",
        ),
    },
    "the local server and the client": {
        "test_serving_contract": (
            "test_images_go_there_and_back",
            "test_sizes_are_kept",
            "test_pixels_go_there_and_back",
            "test_a_bad_item_fails_alone",
            "test_a_request_that_is_none_is_refused",
            "test_metadata_names_the_signatures",
            "test_grpc_says_the_same_of_the_model",
        ),
        "test_serving_local": ALL,
        "test_serving_client": (
            "test_a_busy_server_is_asked_again",
            "test_grpc_is_asked_again_where_that_may_help",
            "test_the_file_stands_alone",
        ),
    },
    "a host's process: threads, forks, pickles, settings": {
        "test_guest": ALL,
        "test_host_settings": (
            "test_keras_settings_change_no_byte",
            "test_a_model_loads_as_ever_under_keras_settings",
            "test_networks_of_every_family_are_built_alike",
            "test_training_takes_the_same_steps_under_keras_settings",
            "test_bfloat16_leaves_the_hosts_policy_alone",
            "test_functions_run_eagerly_give_the_same",
            "test_no_infinity_or_nan_where_a_host_looks_for_them",
            "test_psnr_of_what_comes_back_exactly_is_a_number",
        ),
        "test_files": ALL,
    },
    "what is asked for here": {"test_constraints": ALL, "test_documents": ALL},
}


def runs_on_both(file, test, slow=False):
    """Of a file's name and the name of a test's function; `slow`: whether it is marked so."""
    for files in ON_BOTH.values():
        tests = files.get(file.removesuffix(".py"))
        if tests is not None:
            return test in tests or (tests == ALL and not slow)
    return False
