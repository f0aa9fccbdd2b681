"""The command that a report repeats: what was asked, without secrets."""

from flows.options.segment import SegmentOptions
from flows.text.next_commands import commands_after


def test_the_command_of_a_report_has_no_password_and_no_signature():
    (repeat,) = commands_after(
        input="s3://key:SECRET@bucket/in.zarr",
        output="out of brain.zarr",
        weights="https://host/w.safetensors?X-Signature=SECRET",
        options=SegmentOptions(mask="s3://key:SECRET@bucket/mask.zarr", overwrite=True),
        objects=None,
        cluster=(),
    )
    assert repeat.command == (
        "overtile segment s3://CREDENTIALS@bucket/in.zarr 'out of brain.zarr' "
        "--weights 'https://host/w.safetensors?CREDENTIALS' --mask s3://CREDENTIALS@bucket/mask.zarr"
    )
    assert "CREDENTIALS stands for what is hidden" in repeat.text
