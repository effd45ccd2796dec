from recon.io.volumes.nifti.file import FORMAT as FORMAT
