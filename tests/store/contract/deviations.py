"""Where servers are known to behave otherwise."""

from __future__ import annotations

FLAT = "has directories inside: an empty component goes away, so other keys are hit"

PATHS = "refuses `.` and `..` as components"

DEVIATIONS: dict[str, dict[str, str]] = {
    "memory": {},
    "moto": {
        "key_with_a_newline_and_a_tab": "werkzeug finds no route to it: 404",
        "key_with_control_characters": "writes them into its answers, which are then no XML",
        "key_with_a_noncharacter": "writes them into its answers, which are then no XML",
        "a_key_over_1024_bytes_is_too_long": "has no limit",
        "complete_if_match_replaces_only_what_it_names": "ignores If-Match on CompleteMultipartUpload",
        "a_listed_upload_says_when_it_was_begun": "says that every upload was begun in 2010",
        "a_finished_upload_is_gone": "answers 500",
        "completing_twice_does_not_find_the_upload": "answers 500",
        "an_aborted_upload_leaves_nothing": "answers 500",
        "a_part_is_not_copied_from_a_changed_object": "ignores the condition on a copy's source",
        "a_copy_is_bound_to_its_sources_etag": "ignores the condition on a copy's source",
    },
    "minio": {
        "a_prefix_may_end_within_a_name": "LIST hides what is below a key that is itself an object",
        "a_key_and_keys_below_it_live_together": "LIST hides what is below a key that is itself an object",
        "key_with_a_leading_slash": "drops the slash: `/a` is `a`",
        "key_with_two_slashes": "refuses empty components",
        "key_ending_in_two_slashes": "refuses empty components",
        "key_that_is_a_slash": "refuses empty components",
        "key_with_a_dot_component": PATHS,
        "key_with_a_dot_dot_component": PATHS,
        "key_that_is_dot_dot": PATHS,
        "key_with_a_component_over_255_bytes": "keeps keys as paths of an ordinary file system",
        "unfinished_uploads_under_a_prefix_are_listed": "takes the prefix for a whole key",
        "a_copy_without_a_storage_class_is_standard": "keeps the source's",
        "delete_if_match_deletes_only_what_it_names": "ignores If-Match on DELETE",
    },
    "seaweedfs": {
        "absent_keys_are_not_found": "HEAD of a prefix with a slash at its end finds a directory",
        "a_marker_may_have_a_body": "LIST and HEAD give it size 0",
        "nothing_is_left_of_a_prefix_without_keys": "directories outlive their last key for a while",
        "put_if_match_on_an_absent_key_is_not_found": "answers 412",
        "a_delimited_listing_is_in_the_order_of_whole_keys": "sorts a directory by its name alone",
        "start_after_is_about_whole_keys": "sorts a directory by its name alone",
        "start_after_within_a_common_prefix_loses_nothing_behind_it": "starts anew before it",
        "key_with_a_backslash": "stores it as a slash",
        "key_with_a_leading_slash": FLAT,
        "key_with_two_slashes": FLAT,
        "key_ending_in_two_slashes": FLAT,
        "key_that_is_a_slash": FLAT,
        "key_with_a_dot_component": PATHS,
        "key_with_a_dot_dot_component": PATHS,
        "key_that_is_dot_dot": PATHS,
        "key_with_a_component_over_255_bytes": "refuses it",
        "completing_twice_does_not_find_the_upload": "answers as it did the first time",
        "a_copy_without_a_storage_class_is_standard": "keeps the source's",
    },
}
